# output-flood: prints more than is kept.
yes | head -c 1000000
