"""Real parts for the tests: hosts in name spaces, sshd, loop drives, netcats, a go-between, cron."""
