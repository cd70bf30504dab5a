"""A run shared by several processes or machines: shards, who carries them out, and the one record they make."""
