# time-near: ends just before its time limit of 2 s.
sleep 1.85
