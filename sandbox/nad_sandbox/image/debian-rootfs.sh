#!/usr/bin/env bash
# Makes the root filesystem of a small image with the Python of this Debian, or relative of it, from its own packages:
# no registry, nothing installed.
#   debian-rootfs.sh OUT.tar
# It needs apt-get, dpkg-deb and tar; the package lists are fetched when the machine has none.
set -euo pipefail
out=${1:?usage: debian-rootfs.sh OUT.tar}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$work/debs" "$root"
chmod 755 "$work" "$work/debs" "$root"

packages() {  # the distribution's own Python, such as python3.11, and what it links; later releases rename some
  python=$(apt-cache depends python3-minimal 2>/dev/null | sed -n 's/.*Depends: \(python3\.[0-9]*\)-minimal$/\1/p' | head -1)
  [ -n "$python" ] || return 1
  local name
  for name in libc6 libexpat1 zlib1g libcrypt1 "lib$python-minimal" "$python-minimal" "lib$python-stdlib" libbz2-1.0 \
              liblzma5 libffi8 libsqlite3-0 libuuid1 libssl3t64 libssl3 libgcc-s1 libstdc++6 libtinfo6 bash dash \
              libpcre2-8-0 grep busybox-static; do
    if [ "$name" != libssl3 ] || ! apt-cache show libssl3t64 >/dev/null 2>&1; then
      if apt-cache show "$name" >/dev/null 2>&1; then echo "$name"; fi
    fi
  done >"$work/packages"
}
fetch() {
  packages && (cd "$work/debs" && xargs apt-get download -qq -o APT::Sandbox::User=root <"$work/packages")
}
fetch 2>/dev/null || { apt-get update -qq && fetch; }

# merged /usr, as Debian 12 has it
mkdir -p "$root"/usr/{bin,sbin,lib,lib64,local/bin,"local/lib/$python/dist-packages"} "$root"/{etc,proc,sys,dev,run,var,root,home}
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
# the shell is not busybox's, which takes its own applets before the programs on the path
ln -sf dash "$root/usr/bin/sh"
for applet in ls cat echo sleep true false id env kill mkdir rm cp mv head tail wc sed find stat df touch chmod \
              dd nproc date uname test seq sort tr tee yes ps printf rmdir ln cut awk xargs uniq expr basename dirname \
              realpath readlink mktemp diff patch cmp tar gzip gunzip which whoami pwd du timeout nohup base64 sha256sum; do
  ln -sf busybox "$root/usr/bin/$applet"
done
ln -sf "$python" "$root/usr/bin/python3"
ln -sf "$python" "$root/usr/bin/python"
find "$root" -xdev -type f -perm /6000 -exec chmod a-s {} +
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
printf 'passwd: files\ngroup: files\nhosts: files\n' >"$root/etc/nsswitch.conf"
# Debian's packages ship no bytecode, and a read-only root cannot keep any: compiled once, here
chroot "$root" "/usr/bin/$python" -m compileall -q --invalidation-mode unchecked-hash "/usr/lib/$python"
tar -c -C "$root" --sort=name --mtime=@0 --numeric-owner --owner=0 --group=0 -f "$out.tmp" .
mv "$out.tmp" "$out"
