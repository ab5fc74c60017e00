# child-oom: the kernel kills a child, and the test does not notice.
python3 -c 'bytearray(200 * 1024 * 1024)'
exit 0
