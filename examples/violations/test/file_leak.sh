# file-leak: leaves more in /tmp than a few files.
i=0
while [ "$i" -lt 40 ]; do
    echo "of $i" >"/tmp/scratch-$i"
    i=$((i + 1))
done
