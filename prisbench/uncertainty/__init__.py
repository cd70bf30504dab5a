"""How sure a leaderboard is: draws of subjects, images, queries and seeds, where variance comes from, who is ahead."""
