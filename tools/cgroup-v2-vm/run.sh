#!/bin/sh
# Boots a virtual machine that has control groups of version 2, and runs in it what uses them. See README.md.
# Usage: tools/cgroup-v2-vm/run.sh [MODE...]   modes: limits no-memory hybrid cold tests tests-user budgets bench; the first six by default
# Environment: VM_ACCEL, kvm or (slow, the default) tcg; VM_SECONDS, at most for each mode; VM_CACHE, a cache folder for the benches.
set -eu
export PATH="$PATH:/usr/sbin:/sbin"
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/node_modules/.cache/cgroup-v2-vm
mkdir -p "$work"
cd "$work"

if [ ! -e kernel ]; then
  package=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: //p')
  apt-get download "$package" busybox-static
  for file in *.deb; do dpkg-deb -x "$file" unpacked; done
  rm ./*.deb
  mv unpacked kernel
fi

rm -rf initrd
mkdir -p initrd/bin initrd/modules initrd/proc initrd/dev
cp kernel/bin/busybox initrd/bin 2> /dev/null || cp kernel/usr/bin/busybox initrd/bin
cp "$here/init" initrd/init
printf %s "$here/guest.sh" > initrd/guest
printf %s "$PATH" > initrd/path
for module in virtio virtio_ring virtio_pci virtio_pci_modern_dev virtio_pci_legacy_dev virtio_blk \
  9pnet 9pnet_virtio fscache netfs 9p crc16 libcrc32c crc32c_generic mbcache jbd2 ext4 overlay; do
  find kernel -name "$module.ko*" -exec cp {} initrd/modules \;
done
find initrd/modules -name '*.xz' -exec xz -d {} +
(cd initrd && find . | bin/busybox cpio -o -H newc 2> /dev/null) > initrd.cpio

(cd "$root" && node_modules/.bin/tsup tools/cgroup-v2-vm/probe.mjs --format esm --no-config --silent --out-dir "$work")

status=0
for mode in ${*:-limits no-memory hybrid cold tests tests-user}; do
  case $mode in
    no-memory) arguments=cgroup_disable=memory ;;
    *) arguments="" ;;
  esac
  # Models that the tests and benches keep come along where they are made already: making them in there takes long.
  rm -rf disk "$mode.img"
  mkdir disk
  if [ -d ../nchunk-test ]; then cp -a ../nchunk-test disk/tests; fi
  if [ -n "${VM_CACHE:-}" ]; then cp -a "$VM_CACHE" disk/cache; fi
  truncate -s 8G "$mode.img"
  mke2fs -q -t ext4 -F -d disk "$mode.img"
  rm -rf disk
  timeout "${VM_SECONDS:-3000}" qemu-system-x86_64 -accel "${VM_ACCEL:-tcg}" -cpu max -smp 2 -m 4G \
    -nographic -nodefaults -no-reboot -serial stdio \
    -kernel kernel/boot/vmlinuz-* -initrd initrd.cpio \
    -append "console=ttyS0 quiet panic=-1 nchunk_mode=$mode $arguments" \
    -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
    -drive file="$mode.img",if=virtio,format=raw < /dev/null | tee "$mode.log" || true
  rm -f "$mode.img"
  grep -q "^[1-9][0-9]* passed, 0 failed" "$mode.log" || status=1
done
exit $status
