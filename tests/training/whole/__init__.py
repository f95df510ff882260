"""The whole site as its parts in production: web server, workers, scheduler, each a process of its own."""
