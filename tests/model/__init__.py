"""The commit protocol searched in small worlds: `search` walks, `world` is what it walks through, `cases` and `planted` what is asked."""
