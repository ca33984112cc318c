"""What the compiled system-call policy decides, by running the program that the kernel runs."""

import os
import struct

import pytest
from nad_sandbox.isolation.policy import ALLOWED_SYSCALLS, seccomp_profile
from nad_sandbox.isolation.seccomp_filter import compile_filter

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")

X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x50001, 0x50026


def decide(number, *arguments, arch=X86_64):
    """The verdict of the filter: a small machine for the instructions that seccomp filters are made of."""
    program = list(struct.iter_unpack("HBBI", compile_filter()))
    filled = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("iIQ6Q", number, arch, 0, *[value % 2**64 for value in filled])
    at = accumulator = 0
    while True:
        code, yes, no, k = program[at]
        at += 1
        if code == 0x20:  # load a word
            (accumulator,) = struct.unpack_from("I", data, k)
        elif code == 0x54:  # and
            accumulator &= k
        elif code == 0x06:  # return
            return k
        elif code == 0x05:  # jump
            at += k
        else:
            met = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}
            at += yes if met[code] else no


@pytest.mark.parametrize(
    ("number", "arguments", "verdict"),
    [
        (0, (), ALLOW),  # read
        (59, (), ALLOW),  # execve
        (101, (), EPERM),  # ptrace
        (165, (), EPERM),  # mount
        (272, (0x10000000,), EPERM),  # unshare
        (319, (), EPERM),  # memfd_create
        (425, (), ENOSYS),  # io_uring_setup
        (435, (), ENOSYS),  # clone3
        (56, (0x1200011,), ALLOW),  # clone, as fork does
        (56, (0x10000000,), EPERM),  # clone into a user namespace
        (56, (0x00020000,), EPERM),  # clone into a mount namespace
        (41, (1,), ALLOW),  # socket: unix
        (41, (10,), ALLOW),  # socket: IPv6
        (41, (17,), EPERM),  # socket: packet
        (41, (16,), EPERM),  # socket: netlink
        (41, ((1 << 32) | 1,), EPERM),  # the family is compared in all its bits
        (135, (0xFFFFFFFF,), ALLOW),  # personality: ask
        (135, (0x0040000,), EPERM),  # personality: no address randomisation
        (452, (), ALLOW),  # fchmodat2, which older libraries do not know
        (470, (), ENOSYS),  # newer than the policy
        (1000, (), EPERM),
    ],
)
def test_a_call_is_decided_as_the_policy_has_it(number, arguments, verdict):
    assert decide(number, *arguments) == verdict


def test_other_architectures_and_the_x32_numbers_end_the_process():
    assert decide(0, arch=I386) == KILL
    assert decide(0, arch=AARCH64) == KILL
    assert decide(0x40000000) == KILL


def test_it_allows_as_many_calls_as_dockers_form_of_the_policy():
    allowed = {number for number in range(512) if decide(number) == ALLOW}
    conditional = {56, 135}  # clone and personality with 0 in their first argument
    assert allowed >= conditional
    named = {name for group in seccomp_profile()["syscalls"] if "args" not in group for name in group["names"]}
    assert set(ALLOWED_SYSCALLS) <= named
    lacking = {"recv", "send", "riscv_flush_icache"}  # on x86-64
    assert len(allowed - conditional) == len(set(ALLOWED_SYSCALLS) - lacking)
