"""The leaderboard and its answers as pages that open from disk: ``board.html``, ``browse.html`` beside its scenes."""
