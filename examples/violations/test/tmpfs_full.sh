# tmpfs-full: writes until /tmp takes no more, and does not look.
head -c 32m /dev/zero >/tmp/fill 2>/dev/null
exit 0
