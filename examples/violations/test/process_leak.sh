# process-leak: leaves a daemon behind that holds none of its streams.
(sleep 600 </dev/null >/dev/null 2>&1 &)
exit 0
