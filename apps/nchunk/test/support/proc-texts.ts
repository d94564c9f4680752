/** Texts as Linux writes them, shortened, of machines that tests should not need. */

export const LIMITS = `Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max processes             63471                63471                processes 
Max open files            1024                 1048576              files     
Max locked memory         65536                65536                bytes     
Max address space         unlimited            unlimited            bytes     
Max realtime priority     0                    0                    
`;

export const MEMINFO_JETSON = `MemTotal:        7802952 kB
MemFree:          334120 kB
MemAvailable:    5021444 kB
SwapTotal:       3901472 kB
SwapFree:        3901472 kB
Active(anon):      21544 kB
HugePages_Total:       0
Hugepagesize:       2048 kB
`;

export const CPUINFO_X86 = `processor	: 0
vendor_id	: GenuineIntel
cpu family	: 6
model		: 143
model name	: Intel(R) Xeon(R) Platinum 8480+
flags		: fpu vme sse sse2 ssse3 fma cx16 f16c avx bmi1 avx2 bmi2 avx512f avx512dq avx512bw avx512vl avx512_bf16 avx512_vnni amx_tile
bugs		: spectre_v1 spectre_v2
bogomips	: 4000.00

processor	: 1
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) Platinum 8480+
flags		: fpu
`;

export const CPUINFO_OLD_X86 = `processor	: 0
vendor_id	: GenuineIntel
model name	: QEMU Virtual CPU version 2.5+
flags		: fpu de pse sse sse2 syscall nx lm pni cx16 hypervisor
`;

export const CPUINFO_RASPBERRY = `processor	: 0
BogoMIPS	: 108.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x4
CPU part	: 0xd0b
CPU revision	: 1

Revision	: d04170
Serial		: 1000000012345678
Model		: Raspberry Pi 5 Model B Rev 1.0
`;

export const CPUINFO_ARM_SERVER = `processor	: 0
BogoMIPS	: 50.00
Features	: fp asimd evtstrm aes atomics fphp asimdhp asimddp sve bf16 i8mm
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x1
CPU part	: 0xd40
`;

/** A laptop: LUKS on NVMe, btrfs with a subvolume, a blank in a name, and a later mount over an earlier one. */
export const MOUNTINFO_LAPTOP = `22 1 0:26 /root / rw,relatime shared:1 - btrfs /dev/mapper/luks-1 rw,compress=zstd:1,ssd,subvol=/root
23 22 0:24 / /proc rw,nosuid shared:14 - proc proc rw
40 22 259:1 / /boot/efi rw,relatime shared:20 - vfat /dev/nvme0n1p1 rw,fmask=0077
51 22 0:45 / /tmp rw,nosuid shared:30 - tmpfs tmpfs rw,size=8000000k
52 22 8:17 / /media/me/My\\040Disk rw shared:31 master:2 propagate_from:1 - ext4 /dev/sdb1 rw
53 22 8:33 / /tmp rw shared:32 - xfs /dev/sdc1 rw
broken line
`;

/** A container under version 2: the host's path is not visible, the own folder is the mount's root. */
export const MOUNTINFO_V2 = `612 598 0:29 / / rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/b
620 612 0:31 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate
`;
export const CGROUP_V2 = "0::/app.slice/run.scope\n";

/** Docker under version 1 without a namespace: paths are the host's, and so is the mount's root. */
export const MOUNTINFO_V1 = `700 690 0:40 / / rw - overlay overlay rw
710 700 0:33 /docker/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory
711 700 0:34 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct
`;
export const CGROUP_V1 = `11:memory:/docker/abc
4:cpu,cpuacct:/docker/abc
1:name=systemd:/docker/abc
0::/system.slice/containerd.service
`;
/** What version 1 writes for "no limit" on 4 KiB pages. */
export const V1_NO_LIMIT = "9223372036854771712\n";
