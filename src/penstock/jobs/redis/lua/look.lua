return snapshot(ARGV[3])
