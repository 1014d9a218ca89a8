"""What a submission might try: a program that tests/test_grade.py runs without a sandbox, where
each attack succeeds, and in one, where none may.

Each function returns something true if it got through. It is given `plan`: paths and numbers of
what it is after.
"""
import contextlib
import ctypes
import glob
import json
import mmap
import os
import socket
import subprocess
import sys
import threading

ATTACKS = {}
LIBC = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
NUMBERS = dict(memfd_create=(319, 279), shmget=(29, 194), semget=(64, 190), msgget=(68, 186),
               add_key=(248, 217), keyctl=(250, 219), perf_event_open=(298, 241),
               userfaultfd=(323, 282), io_uring_setup=(425, 425), process_vm_readv=(310, 270),
               ptrace=(101, 117), pidfd_open=(434, 434), unshare=(272, 97), setns=(308, 268),
               syslog=(103, 116), open_tree=(428, 428), open_by_handle_at=(304, 265))


def attack(function):
    ATTACKS[function.__name__] = function
    return function


def call(name, *arguments) -> int:
    "A system call by its number."
    return LIBC.syscall(NUMBERS[name][os.uname().machine == "aarch64"], *arguments)


def looked_at(name, *arguments) -> bool:
    "Whether the kernel looks at the arguments of a system call, instead of refusing the call."
    ctypes.set_errno(0)
    call(name, *arguments)
    return ctypes.get_errno() != 1


def child(action) -> bool:
    "Whether an action succeeds in a process of its own."
    if (pid := os.fork()) == 0:
        done = False
        with contextlib.suppress(BaseException):
            done = action()
        os._exit(0 if done else 1)
    return os.waitpid(pid, 0)[1] == 0


# files to read
@attack
def reads_keys(plan): return open(plan["home"] + "/.ssh/id_rsa").read()
@attack
def reads_users(plan): return open("/etc/passwd").read()
@attack
def reads_submissions(plan): return os.listdir(plan["submissions"])
@attack
def reads_solutions(plan): return "BEGIN SOLUTION" in open(
    plan["root"] + "/nbs/04_losses/losses_dev.ipynb").read()
@attack
def reads_the_package(plan): return "BEGIN SOLUTION" in open(
    plan["root"] + "/tinytorch/nn/losses.py").read()
@attack
def reads_mistakes(plan): return open(plan["root"] + "/tinytorch/checking/mistakes.py").read()
@attack
def reads_an_installed_copy(plan): return open(plan["site"] + "/tinytorch_planted/losses.py").read()
@attack
def reads_a_copy_beside_the_library(plan): return open(os.path.dirname(plan["site"])
                                                       + "/course_planted.py").read()
@attack
def reads_the_root_of_a_process(plan): return os.path.exists(
    f"/proc/{plan['pid']}/root/{plan['root']}/settings.ini")
@attack
def reads_through_its_own_root(plan): return os.path.exists(
    f"/proc/self/root{plan['root']}/settings.ini")
@attack
def reads_by_climbing(plan): return os.path.exists("../" * 20 + plan["root"] + "/settings.ini")
@attack
def sees_the_system(plan): return os.listdir("/sys")
@attack
def sees_programs(plan): return os.path.exists("/bin/sh")
@attack
def finds_a_compiler_or_a_shell(plan): return glob.glob("/usr/bin/*sh")
@attack
def imports_the_judge(plan): sys.path.append(plan["root"]); import tinytorch.checking.judge; return True
@attack
def imports_pip(plan): sys.path.append(plan["site"]); import pip; return True


# files to write
def writes(path): open(path, "w").write("x"); os.remove(path); return True
@attack
def writes_to_home(plan): return writes(plan["home"] + "/.bashrc")
@attack
def writes_a_pth(plan): return writes(plan["site"] + "/planted.pth")
@attack
def writes_to_tmp(plan): return writes("/tmp" "/tinytorch-planted")
@attack
def writes_to_shared_memory(plan): return writes("/dev/shm/tinytorch-planted")
@attack
def writes_beside_itself(plan): return writes(os.path.dirname(os.path.abspath(__file__))
                                              + "/planted.py")
@attack
def writes_to_submissions(plan): return writes(plan["submissions"] + "/planted")
@attack
def writes_over_itself(plan): return open(__file__, "a").close() or True
@attack
def makes_folders(plan): os.mkdir(
    "/tmp" "/planted-folder"); os.rmdir("/tmp" "/planted-folder"); return True
@attack
def makes_links(plan): os.symlink(
    "x", "/tmp" "/planted-link"); os.remove("/tmp" "/planted-link"); return True
@attack
def makes_pipes(plan): os.mkfifo(
    "/tmp" "/planted-pipe"); os.remove("/tmp" "/planted-pipe"); return True
@attack
def changes_modes(plan): os.chmod(__file__, os.stat(__file__).st_mode); return True
@attack
def touches(plan): os.utime(__file__); return True
@attack
def makes_files_in_memory(plan): return call("memfd_create", b"x", 0) >= 0
@attack
def maps_shared_memory(plan): return mmap.mmap(os.open(plan["home"] + "/file", os.O_RDWR), 10)


# the environment
@attack
def reads_the_environment(plan): return os.environ["TINYTORCH_PLANTED"]
@attack
def reads_the_first_environment(plan): return b"TINYTORCH_PLANTED" in open(
    "/proc/self/environ", "rb").read()
@attack
def sees_other_processes(plan): return {name for name in os.listdir("/proc") if name.isdigit()} - {
    "1", str(os.getpid())}
@attack
def reads_the_parents_command(plan): return open(f"/proc/{plan['pid']}/cmdline", "rb").read()
@attack
def learns_the_name_of_the_machine(plan): return os.uname().nodename == plan["host"]
@attack
def raises_its_priority(plan): os.setpriority(os.PRIO_PROCESS, 0, -5); os.setpriority(
    os.PRIO_PROCESS, 0, 0); return True
@attack
def types_into_the_terminal(plan): import fcntl, termios; return child(lambda: fcntl.ioctl(
    os.open(plan["terminal"], os.O_RDWR), termios.TIOCSTI, b"x") == 0)
@attack
def writes_to_the_terminal(plan): return os.write(os.open(plan["terminal"], os.O_RDWR), b"x")
@attack
def changes_the_root(plan): return child(lambda: os.chroot("/") or True)
@attack
def becomes_another_user(plan): return child(lambda: os.setuid(os.getuid() or 1000) or os.getuid()
                                             and os.setgroups([0]) or True)
@attack
def opens_files_by_handle(plan): return looked_at("open_by_handle_at", -100, 0, 0)
@attack
def inherits_files(plan): return [
    fd for fd in range(3, 50)
    if os.path.exists(f"/proc/self/fd/{fd}") and "planted" in os.readlink(f"/proc/self/fd/{fd}")]


# other processes
@attack
def signals_the_parent(plan): os.kill(plan["pid"], 0); return True
@attack
def signals_its_parent(plan): return os.getppid() > 0 and (os.kill(os.getppid(), 0) or True)
@attack
def traces_the_parent(plan): return child(lambda: call("ptrace", 16, plan["victim"], 0, 0) == 0)
@attack
def reads_the_parents_memory(plan): return open(f"/proc/{plan['victim']}/mem", "rb")
@attack
def reads_another_memory(plan): return looked_at("process_vm_readv", -1, 0, 0, 0, 0, 0)
@attack
def takes_a_handle(plan): return call("pidfd_open", plan["pid"], 0) >= 0
@attack
def forks(plan): return child(lambda: True)
@attack
def leaves_the_session(plan): return child(lambda: os.setsid() or True)
@attack
def outlives_its_parent(plan): return LIBC.prctl(1, 0, 0, 0, 0) == 0
@attack
def spawns(plan): return os.waitpid(
    os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ), 0)[1] == 0
@attack
def runs_a_shell(plan): return os.system("true") == 0
@attack
def runs_python(plan): return subprocess.run([sys.executable, "-c", ""]).returncode == 0
@attack
def starts_threads(plan): thread = threading.Thread(
    target=str); thread.start(); thread.join(); return True


# sockets and the kernel
@attack
def connects(plan): socket.create_connection(("127.0.0.1", plan["port"]), 2).close(); return True
@attack
def listens(plan): socket.create_server(("127.0.0.1", 0)).close(); return True
@attack
def sends_packets(plan): return socket.socket(
    socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", plan["port"]))
@attack
def reaches_a_bus(plan): socket.socket(socket.AF_UNIX).connect(plan["bus"]); return True
@attack
def reaches_an_abstract_socket(plan): socket.socket(socket.AF_UNIX).connect(
    "\0" + plan["abstract"]); return True
@attack
def asks_the_network(plan): return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
@attack
def makes_pairs_of_sockets(plan): return socket.socketpair()
@attack
def takes_shared_memory(plan): number = call(
    "shmget", 0, 4096, 0o1600); return number >= 0 and LIBC.shmctl(number, 0, None) == 0
@attack
def takes_semaphores(plan): number = call(
    "semget", 0, 1, 0o1600); return number >= 0 and LIBC.semctl(number, 0, 0) == 0
@attack
def takes_queues(plan): number = call(
    "msgget", 0, 0o1600); return number >= 0 and LIBC.msgctl(number, 0, None) == 0
@attack
def keeps_keys(plan): return call("add_key", b"user", b"tinytorch", b"x", 1, -2) > 0
@attack
def reads_keyrings(plan): return call("keyctl", 0, -2, 0) > 0
@attack
def makes_namespaces(plan): return child(lambda: call("unshare", 0x10000000) == 0)
@attack
def makes_namespaces_here(plan): return call("unshare", 0) == 0
@attack
def enters_namespaces(plan): return looked_at("setns", -1, 0)
@attack
def copies_mounts(plan): return looked_at("open_tree", -1, 0, 0)
@attack
def measures_the_system(plan): return looked_at("perf_event_open", 0, 0, 0, 0, 0)
@attack
def catches_faults(plan): return call("userfaultfd", 1) >= 0
@attack
def uses_rings(plan): return looked_at("io_uring_setup", 0, 0)
@attack
def reads_the_kernels_log(plan): return call("syslog", 10, 0, 0) >= 0


# limits
@attack
def takes_memory(plan): return bytearray(3 * 2**30)
@attack
def opens_many_files(plan): return [open("/dev/null") for _ in range(200)]
@attack
def writes_large_files(plan):
    with contextlib.closing(os.fdopen(os.open(plan["home"] + "/large", os.O_CREAT | os.O_WRONLY),
                                      "wb")) as file:
        return file.write(b"x" * 10**6)
@attack
def raises_its_limits(plan):
    import resource
    resource.setrlimit(resource.RLIMIT_NPROC, resource.getrlimit(resource.RLIMIT_NPROC)[:1] * 2)
    return resource.getrlimit(resource.RLIMIT_NPROC)[0] not in (0, 1)
@attack
def dumps_its_memory(plan): import resource; return resource.getrlimit(resource.RLIMIT_CORE)[1] != 0
@attack
def computes_without_end(plan): import resource; return resource.getrlimit(
    resource.RLIMIT_CPU)[1] == resource.RLIM_INFINITY
@attack
def gets_rights_by_programs(plan): return LIBC.prctl(39, 0, 0, 0, 0) == 0


if __name__ == "__main__":
    given, results = json.loads(sys.argv[1]), {}
    for name, function in ATTACKS.items():
        try:
            results[name] = [bool(function(given)), ""]
        except BaseException as error:
            results[name] = [False, f"{type(error).__name__}: {error}"]
    print(json.dumps(results))
    sys.stdout.flush()
    os._exit(0)
