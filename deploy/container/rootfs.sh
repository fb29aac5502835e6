#!/bin/sh
# Makes the root of the image, in the builder: rootfs.sh BINARY FOLDER. The folder then has the binary without
# its symbols, the libraries it is linked to and their loader, certificate authorities, the account 10001, and
# the folders that a process expects; the loader's cache is left out, it finds libraries without.
set -eu

binary=$1 root=$2

mkdir -p "$root/usr/local/bin" "$root/etc/ssl/certs" "$root/tmp" "$root/var/lib/oms"
strip --strip-debug -o "$root/usr/local/bin/oms" "$binary"
chmod 755 "$root/usr/local/bin/oms"

libraries=$(ldd "$binary")
case $libraries in
*'not found'*)
    echo "rootfs.sh: not on this system: $libraries" >&2
    exit 1
    ;;
esac
# Name => path (address), or path (address) for the loader; the kernel's own has no path. Where /lib is a link
# to /usr/lib it is a folder here: the paths are those that the loader looks in.
echo "$libraries" | sed -n 's|^[^/]*\(/[^ ]*\) (0x.*|\1|p' | while read -r library; do
    mkdir -p "$root${library%/*}"
    cp -L "$library" "$root$library"
done

cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'oms:x:10001:10001:oms:/var/lib/oms:/sbin/nologin' >"$root/etc/passwd"
echo 'oms:x:10001:' >"$root/etc/group"
# Names in the order that every Linux has it: the file, then DNS.
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"

chmod 1777 "$root/tmp"
chown -R 10001:10001 "$root/var/lib/oms"
chmod 700 "$root/var/lib/oms"

# It starts there, or the image is not made.
chroot "$root" /usr/local/bin/oms --version
