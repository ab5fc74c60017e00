# time-over: does not end.
sleep 600
