#!/usr/bin/env bash
# Makes the root filesystem of a small Python image from Debian's own packages: no registry, nothing installed.
#   debian-rootfs.sh OUT.tar
# It needs apt-get, dpkg-deb and tar; the package lists are fetched when the machine has none.
set -euo pipefail
out=${1:?usage: debian-rootfs.sh OUT.tar}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$work/debs" "$root"
chmod 755 "$work" "$work/debs" "$root"

packages="libc6 libexpat1 zlib1g libcrypt1 libpython3.11-minimal python3.11-minimal libpython3.11-stdlib
  libbz2-1.0 liblzma5 libffi8 libsqlite3-0 libuuid1 libssl3 libgcc-s1 libstdc++6 busybox-static"
fetch() {
  # shellcheck disable=SC2086
  (cd "$work/debs" && apt-get download -qq -o APT::Sandbox::User=root $packages)
}
fetch 2>/dev/null || { apt-get update -qq && fetch; }

# merged /usr, as Debian 12 has it
mkdir -p "$root"/usr/{bin,sbin,lib,lib64,local/bin,local/lib/python3.11/dist-packages} "$root"/{etc,proc,sys,dev,run,var,root,home}
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done
install -d -m 1777 "$root/tmp" "$root/var/tmp"
for deb in "$work"/debs/*.deb; do
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink \
    --exclude './usr/share/doc*' --exclude './usr/share/man*' --exclude './usr/share/lintian*' \
    --exclude './usr/share/locale*' --exclude './usr/share/python3*' --exclude './usr/share/binfmts*' \
    --exclude './usr/share/applications*' --exclude './usr/share/pixmaps*' --exclude './usr/share/bash-completion*' \
    --exclude './usr/share/initramfs-tools*' --exclude './usr/share/gdb*' --exclude './usr/share/gcc*' \
    --exclude '*/gconv*' --exclude '*-linux-gnu/audit*' --exclude '*/lib2to3*' --exclude '*/pydoc_data*'
done
for applet in sh ls cat echo sleep true false id env kill mkdir rm cp mv head tail wc grep sed find stat df touch chmod \
              dd nproc date uname test seq sort tr tee yes ps; do
  ln -sf busybox "$root/usr/bin/$applet"
done
ln -sf python3.11 "$root/usr/bin/python3"
ln -sf python3.11 "$root/usr/bin/python"
find "$root" -xdev -type f -perm /6000 -exec chmod a-s {} +
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
printf 'passwd: files\ngroup: files\nhosts: files\n' >"$root/etc/nsswitch.conf"
# Debian's packages ship no bytecode, and a read-only root cannot keep any: compiled once, here
chroot "$root" /usr/bin/python3.11 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3.11
tar -c -C "$root" --sort=name --mtime=@0 --numeric-owner --owner=0 --group=0 -f "$out.tmp" .
mv "$out.tmp" "$out"
