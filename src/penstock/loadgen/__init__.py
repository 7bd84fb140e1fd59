"""`penstock bench`: load for any OpenAI-compatible server, and an honest account of what came."""
