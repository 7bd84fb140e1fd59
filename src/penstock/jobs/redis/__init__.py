"""Jobs in Redis, for several processes that share them.

`store` and `log` are what `penstock.jobs.store` asks for; `link` is the connections, `watch` what
is told to others and heard from them, `commits` the writing, `lua/` what must happen at once.
"""
