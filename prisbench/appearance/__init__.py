"""``attn-features``: a subject's words find it in its own photos, and its looks there help to find it again."""
