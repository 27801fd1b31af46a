# Runs as the first process of fresh namespaces, and becomes the entrypoint.
set -eu
lower=$1 upper=$2 work=$3 root=$4 volumes=$5 prepare=$6
shift 6
path=${PATH}
export PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:${PATH}"

mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=${lower},upperdir=${upper},workdir=${work},redirect_dir=off" "${root}"
mount -t proc -o nosuid,nodev,noexec proc "${root}/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "${root}/sys" 2>/dev/null || mount --rbind -o ro /sys "${root}/sys"
mount -t tmpfs -o nosuid,mode=755 tmpfs "${root}/dev"
for device in null zero full random urandom tty; do
    touch "${root}/dev/${device}"
    mount --bind "/dev/${device}" "${root}/dev/${device}"
done
mkdir -p "${root}/dev/pts" "${root}/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "${root}/dev/pts"
ln -s pts/ptmx "${root}/dev/ptmx"
ln -s /proc/self/fd "${root}/dev/fd"
ln -s fd/0 "${root}/dev/stdin"
ln -s fd/1 "${root}/dev/stdout"
ln -s fd/2 "${root}/dev/stderr"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "${root}/dev/shm"
while IFS=$'\t' read -r outside inside; do
    [ -n "${outside}" ] || continue
    mkdir -p "${root}${inside}"
    mount --bind "${outside}" "${root}${inside}"
done <<< "${volumes}"
printf '127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t%s\n' "${HOSTNAME:-container}" > "${root}/etc/hosts"
touch "${root}/etc/resolv.conf"
mount --bind /etc/resolv.conf "${root}/etc/resolv.conf"
(cd "${root}" && eval "${prepare}")
hostname "${HOSTNAME:-container}" 2>/dev/null || true
ip link set lo up 2>/dev/null || true

cd "${root}"
mkdir -p .old-root
pivot_root . .old-root
umount -l /.old-root
rmdir /.old-root
cd /
export PATH="${path}"
exec "$@"
