# Parts of the lab's scripts: what a machine is made of. To be sourced in the root of the repository.
#
#   machine_parts ARCH           kernel, busybox and nft of Debian for amd64 or arm64, kept in target/lab/ARCH
#   machine_root ARCH BIN ROOT   fills ROOT with what the machine needs, the binaries from BIN
#   machine_run ARCH MEMORY INITRAMFS APPEND [QEMU-OPTION...]    becomes QEMU; the console is its output
#                                and its time is machine_seconds, where that is set

lab=target/lab
PATH=$PATH:/usr/sbin:/sbin

# What Debian's nft is linked to.
nft_needs=(nftables libnftables1 libnftnl11 libmnl0 libjansson4 libxtables12 libedit2 libbsd0 libmd0 libtinfo6 libgmp10 libc6)

machine_parts() {
  local arch=$1 dir=$lab/$1 package
  mkdir -p "$dir"
  # The kernel: its package's name is where the metapackage's documentation points.
  if ! ls "$dir"/kernel/boot/vmlinuz-* >/dev/null 2>&1; then
    ./.ci/debian-from trixie "$dir/meta" "linux-image-cloud-$arch:$arch" >/dev/null
    package=$(readlink "$dir/meta/usr/share/doc/linux-image-cloud-$arch")
    rm -rf "$dir/kernel.new"
    ./.ci/debian-from trixie "$dir/kernel.new" "$package:$arch" >/dev/null
    mv "$dir/kernel.new" "$dir/kernel"
  fi
  if [[ ! -e $dir/userland/bin/busybox ]]; then
    rm -rf "$dir/userland.new"
    ./.ci/debian-from bookworm "$dir/userland.new" "busybox-static:$arch" "${nft_needs[@]/%/:$arch}" >/dev/null
    mv "$dir/userland.new" "$dir/userland"
  fi
}

machine_root() {
  local arch=$1 bin=$2 root=$3 userland=$lab/$1/userland program library
  mkdir -p "$root"/{bin,lab,etc,lib}
  for program in coracle coracle-agent; do
    if [[ $arch == amd64 ]]; then
      strip -s -o "$root/bin/$program" "$bin/$program"
      # What is linked dynamically comes with its libraries.
      { ldd "$bin/$program" 2>/dev/null || true; } | { grep -o '/[^ ]*' || true; } | while read -r library; do
        mkdir -p "$root$(dirname "$library")" && cp -Lu "$library" "$root$library"
      done
    else
      cp "$bin/$program" "$root/bin/"
    fi
  done
  # Debian's nft with its own libraries, apart from those of this machine.
  mkdir -p "$root/lib/nft"
  cp "$userland/usr/sbin/nft" "$root/lib/nft/nft"
  find "$userland" -name '*.so.*' ! -path '*/gconv/*' -exec cp -L {} "$root/lib/nft/" \; 2>/dev/null || true
  cat >"$root/bin/nft" <<'S'
#!/bin/sh
exec /lib/nft/$(ls /lib/nft | grep '^ld-linux') --library-path /lib/nft /lib/nft/nft "$@"
S
  chmod +x "$root/bin/nft"
  cp control/examples/basic-deployment.yml cross/lab/*.yml "$root/lab/"
  cp cross/lab/{in-the-machine,flow.sh,hardship.sh,power-cut-guest} "$root/lab/"
  echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
  printf 'ID=lab\nPRETTY_NAME="Lab"\n' >"$root/etc/os-release"
}

machine_run() {
  local arch=$1 memory=$2 initramfs=$3 append=$4; shift 4
  local machine
  case $arch in
    # The kernel's check of its timer fails where the host has no time for QEMU just then.
    amd64) machine=(qemu-system-x86_64 -M q35 -cpu max); append+=" console=ttyS0 no_timer_check" ;;
    arm64) machine=(qemu-system-aarch64 -M virt -cpu cortex-a53); append+=" console=ttyAMA0" ;;
  esac
  exec ${machine_seconds:+timeout "$machine_seconds"} "${machine[@]}" -m "$memory" -smp 2 -accel tcg,thread=multi -nographic -nodefaults -serial stdio -no-reboot \
    -kernel "$(echo $lab/"$arch"/kernel/boot/vmlinuz-*)" -initrd "$initramfs" -append "quiet panic=-1 $append" "$@" </dev/null
}
