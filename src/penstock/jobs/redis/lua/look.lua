return snapshot(ARGV[3], ARGV[2])
