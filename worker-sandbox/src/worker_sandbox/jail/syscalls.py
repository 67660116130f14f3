"""What a jail may ask of the kernel, by name; and the numbers of the names on each architecture.

Allowed is what CPython and glibc need to compute, to read the read-only root and to work in the
scratch directory, threads included. NOTHING succeeds without being done. REFUSED gives EPERM: these
are attacks, or would reach beyond the jail. All others, also those that the kernel has not invented
yet, give ENOSYS, at which libraries fall back to something older.
"""

from __future__ import annotations

from typing import Final


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ALLOWED: Final = _names(
    "read write readv writev pread64 pwrite64 preadv pwritev lseek close close_range dup dup2 "
    "dup3 pipe pipe2 poll ppoll select pselect6 open openat creat access faccessat faccessat2 "
    "stat fstat lstat newfstatat statx getdents64 getcwd chdir fchdir readlink readlinkat mkdir "
    "mkdirat rmdir unlink unlinkat rename renameat renameat2 symlink symlinkat chmod fchmod "
    "fchmodat fchmodat2 truncate ftruncate fallocate utimensat utime "
    "utimes umask munmap mremap brk set_robust_list set_tid_address rseq "
    "sched_yield sched_getaffinity rt_sigaction rt_sigprocmask rt_sigreturn "
    "rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack restart_syscall pause alarm "
    "setitimer getitimer nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time "
    "times getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid getgroups "
    "getpgrp getpgid getsid getpriority capget getrusage getrlimit uname getrandom getcpu exit "
    "exit_group "
)

#: Said to be done, and not done. The scratch directory is memory, so there is nothing to wait for;
#: of a file of the library it would be the host's disk that works, for whoever asks and for all.
NOTHING: Final = _names("fsync fdatasync")

#: Said to be done, and not done, where a jail sees the host's root: Landlock does not hold these,
#: and the worker's own files may be the same user's. In scratch directories nobody misses them.
OF_ANY_FILE: Final = _names("chmod fchmod fchmodat fchmodat2 utime utimes utimensat")

#: Allowed with certain arguments only; seccomp.py has a check for each.
CHECKED: Final = _names("clone fcntl futex ioctl madvise mmap mprotect prctl prlimit64 tgkill")

REFUSED: Final = _names(
    "fork vfork execve execveat wait4 waitid kill tkill rt_sigqueueinfo rt_tgsigqueueinfo "
    "pidfd_open pidfd_getfd pidfd_send_signal ptrace process_vm_readv process_vm_writev "
    "process_madvise process_mrelease kcmp socket socketpair connect accept accept4 bind listen "
    "sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg getsockname getpeername setsockopt "
    "getsockopt shutdown unshare setns mount umount2 pivot_root chroot open_tree open_tree_attr "
    "move_mount fsopen fsconfig fsmount fspick mount_setattr statmount listmount "
    "name_to_handle_at open_by_handle_at openat2 mknod mknodat link linkat chown fchown lchown "
    "fchownat setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups "
    "capset setsid setpgid setrlimit setpriority sched_setaffinity sched_setscheduler "
    "sched_setparam sched_setattr ioprio_set add_key request_key keyctl bpf perf_event_open "
    "userfaultfd io_uring_setup io_uring_enter io_uring_register io_setup io_submit io_cancel "
    "io_destroy io_getevents init_module finit_module delete_module kexec_load kexec_file_load "
    "reboot swapon swapoff iopl ioperm modify_ldt personality acct quotactl quotactl_fd syslog "
    "sethostname setdomainname settimeofday clock_settime adjtimex clock_adjtime shmget shmat "
    "shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open mq_unlink "
    "mq_timedsend mq_timedreceive mq_notify mq_getsetattr flock memfd_create memfd_secret "
    "remap_file_pages pkey_mprotect map_shadow_stack inotify_init inotify_init1 "
    "inotify_add_watch fanotify_init fanotify_mark mbind set_mempolicy migrate_pages move_pages "
    "seccomp sync syncfs vhangup sysinfo splice tee vmsplice signalfd signalfd4 "
    # Where the others' jails would feel it: pages that all have mapped, processors that all use.
    "fadvise64 membarrier "
)

#: Since Linux 5.0 a call has one number everywhere.
_COMMON: Final = """
    pidfd_send_signal 424 io_uring_setup 425 io_uring_enter 426 io_uring_register 427 open_tree 428
    move_mount 429 fsopen 430 fsconfig 431 fsmount 432 fspick 433 pidfd_open 434 clone3 435
    close_range 436 openat2 437 pidfd_getfd 438 faccessat2 439 process_madvise 440
    mount_setattr 442 quotactl_fd 443 landlock_create_ruleset 444 landlock_add_rule 445
    landlock_restrict_self 446 memfd_secret 447 process_mrelease 448 fchmodat2 452
    map_shadow_stack 453 statmount 457 listmount 458 open_tree_attr 467
"""

_X86_64: Final = """
    read 0 write 1 open 2 close 3 stat 4 fstat 5 lstat 6 poll 7 lseek 8 mmap 9 mprotect 10
    munmap 11 brk 12 rt_sigaction 13 rt_sigprocmask 14 rt_sigreturn 15 ioctl 16 pread64 17
    pwrite64 18 readv 19 writev 20 access 21 pipe 22 select 23 sched_yield 24 mremap 25 madvise 28
    shmget 29 shmat 30 shmctl 31 dup 32 dup2 33 pause 34 nanosleep 35 getitimer 36 alarm 37
    setitimer 38 getpid 39 socket 41 connect 42 accept 43 sendto 44 recvfrom 45 sendmsg 46
    recvmsg 47 shutdown 48 bind 49 listen 50 getsockname 51 getpeername 52 socketpair 53
    setsockopt 54 getsockopt 55 clone 56 fork 57 vfork 58 execve 59 exit 60 wait4 61 kill 62
    uname 63 semget 64 semop 65 semctl 66 shmdt 67 msgget 68 msgsnd 69 msgrcv 70 msgctl 71
    fcntl 72 flock 73 fsync 74 fdatasync 75 truncate 76 ftruncate 77 getcwd 79 chdir 80 fchdir 81
    rename 82 mkdir 83 rmdir 84 creat 85 link 86 unlink 87 symlink 88 readlink 89 chmod 90
    fchmod 91 chown 92 fchown 93 lchown 94 umask 95 gettimeofday 96 getrlimit 97 getrusage 98
    sysinfo 99 times 100 ptrace 101 getuid 102 syslog 103 getgid 104 setuid 105 setgid 106
    geteuid 107 getegid 108 setpgid 109 getppid 110 getpgrp 111 setsid 112 setreuid 113
    setregid 114 getgroups 115 setgroups 116 setresuid 117 getresuid 118 setresgid 119
    getresgid 120 getpgid 121 setfsuid 122 setfsgid 123 getsid 124 capget 125 capset 126
    rt_sigpending 127 rt_sigtimedwait 128 rt_sigqueueinfo 129 rt_sigsuspend 130 sigaltstack 131
    utime 132 mknod 133 personality 135 getpriority 140 setpriority 141 sched_setparam 142
    sched_setscheduler 144 vhangup 153 modify_ldt 154 pivot_root 155 prctl 157 adjtimex 159
    setrlimit 160 chroot 161 sync 162 acct 163 settimeofday 164 mount 165 umount2 166 swapon 167
    swapoff 168 reboot 169 sethostname 170 setdomainname 171 iopl 172 ioperm 173 init_module 175
    delete_module 176 quotactl 179 gettid 186 tkill 200 time 201 futex 202 sched_setaffinity 203
    sched_getaffinity 204 io_setup 206 io_destroy 207 io_getevents 208 io_submit 209
    io_cancel 210 remap_file_pages 216 getdents64 217 set_tid_address 218 restart_syscall 219
    semtimedop 220 fadvise64 221 clock_settime 227 clock_gettime 228 clock_getres 229
    clock_nanosleep 230 exit_group 231 tgkill 234 utimes 235 mbind 237 set_mempolicy 238
    mq_open 240 mq_unlink 241 mq_timedsend 242 mq_timedreceive 243 mq_notify 244 mq_getsetattr 245
    kexec_load 246 waitid 247 add_key 248 request_key 249 keyctl 250 ioprio_set 251
    inotify_init 253 inotify_add_watch 254 migrate_pages 256 openat 257 mkdirat 258 mknodat 259
    fchownat 260 newfstatat 262 unlinkat 263 renameat 264 linkat 265 symlinkat 266 readlinkat 267
    fchmodat 268 faccessat 269 pselect6 270 ppoll 271 unshare 272 set_robust_list 273 splice 275
    tee 276 vmsplice 278 move_pages 279 utimensat 280 signalfd 282 fallocate 285 accept4 288
    signalfd4 289 dup3 292 pipe2 293 inotify_init1 294 preadv 295 pwritev 296
    rt_tgsigqueueinfo 297 perf_event_open 298 recvmmsg 299 fanotify_init 300 fanotify_mark 301
    prlimit64 302 name_to_handle_at 303 open_by_handle_at 304 clock_adjtime 305 syncfs 306
    sendmmsg 307 setns 308 getcpu 309 process_vm_readv 310 process_vm_writev 311 kcmp 312
    finit_module 313 sched_setattr 314 renameat2 316 seccomp 317 getrandom 318 memfd_create 319
    kexec_file_load 320 bpf 321 execveat 322 userfaultfd 323 membarrier 324 pkey_mprotect 329
    statx 332 rseq 334
"""

_AARCH64: Final = """
    io_setup 0 io_destroy 1 io_submit 2 io_cancel 3 io_getevents 4 getcwd 17 dup 23 dup3 24
    fcntl 25 inotify_init1 26 inotify_add_watch 27 ioctl 29 ioprio_set 30 flock 32 mknodat 33
    mkdirat 34 unlinkat 35 symlinkat 36 linkat 37 renameat 38 umount2 39 mount 40 pivot_root 41
    truncate 45 ftruncate 46 fallocate 47 faccessat 48 chdir 49 fchdir 50 chroot 51 fchmod 52
    fchmodat 53 fchownat 54 fchown 55 openat 56 close 57 vhangup 58 pipe2 59 quotactl 60
    getdents64 61 lseek 62 read 63 write 64 readv 65 writev 66 pread64 67 pwrite64 68 preadv 69
    pwritev 70 pselect6 72 ppoll 73 signalfd4 74 vmsplice 75 splice 76 tee 77 readlinkat 78
    newfstatat 79 fstat 80 sync 81 fsync 82 fdatasync 83 utimensat 88 acct 89 capget 90 capset 91
    personality 92 exit 93 exit_group 94 waitid 95 set_tid_address 96 unshare 97 futex 98
    set_robust_list 99 nanosleep 101 getitimer 102 setitimer 103 kexec_load 104 init_module 105
    delete_module 106 clock_settime 112 clock_gettime 113 clock_getres 114 clock_nanosleep 115
    syslog 116 ptrace 117 sched_setparam 118 sched_setscheduler 119 sched_setaffinity 122
    sched_getaffinity 123 sched_yield 124 restart_syscall 128 kill 129 tkill 130 tgkill 131
    sigaltstack 132 rt_sigsuspend 133 rt_sigaction 134 rt_sigprocmask 135 rt_sigpending 136
    rt_sigtimedwait 137 rt_sigqueueinfo 138 rt_sigreturn 139 setpriority 140 getpriority 141
    reboot 142 setregid 143 setgid 144 setreuid 145 setuid 146 setresuid 147 getresuid 148
    setresgid 149 getresgid 150 setfsuid 151 setfsgid 152 times 153 setpgid 154 getpgid 155
    getsid 156 setsid 157 getgroups 158 setgroups 159 uname 160 sethostname 161 setdomainname 162
    getrlimit 163 setrlimit 164 getrusage 165 umask 166 prctl 167 getcpu 168 gettimeofday 169
    settimeofday 170 adjtimex 171 getpid 172 getppid 173 getuid 174 geteuid 175 getgid 176
    getegid 177 gettid 178 sysinfo 179 mq_open 180 mq_unlink 181 mq_timedsend 182
    mq_timedreceive 183 mq_notify 184 mq_getsetattr 185 msgget 186 msgctl 187 msgrcv 188 msgsnd 189
    semget 190 semctl 191 semtimedop 192 semop 193 shmget 194 shmctl 195 shmat 196 shmdt 197
    socket 198 socketpair 199 bind 200 listen 201 accept 202 connect 203 getsockname 204
    getpeername 205 sendto 206 recvfrom 207 setsockopt 208 getsockopt 209 shutdown 210 sendmsg 211
    recvmsg 212 brk 214 munmap 215 mremap 216 add_key 217 request_key 218 keyctl 219 clone 220
    execve 221 mmap 222 fadvise64 223 swapon 224 swapoff 225 mprotect 226 madvise 233
    remap_file_pages 234 mbind 235 set_mempolicy 237 migrate_pages 238 move_pages 239
    rt_tgsigqueueinfo 240 perf_event_open 241 accept4 242 recvmmsg 243 wait4 260 prlimit64 261
    fanotify_init 262 fanotify_mark 263 name_to_handle_at 264 open_by_handle_at 265
    clock_adjtime 266 syncfs 267 setns 268 sendmmsg 269 process_vm_readv 270 process_vm_writev 271
    kcmp 272 finit_module 273 sched_setattr 274 renameat2 276 seccomp 277 getrandom 278
    memfd_create 279 bpf 280 execveat 281 userfaultfd 282 membarrier 283 pkey_mprotect 288
    statx 291 rseq 293 kexec_file_load 294
"""


def _table(text: str) -> dict[str, int]:
    words = (text + _COMMON).split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


#: architecture as uname(2) names it -> name -> number; a name that it lacks has no entry.
NUMBERS: Final = {"x86_64": _table(_X86_64), "aarch64": _table(_AARCH64)}
