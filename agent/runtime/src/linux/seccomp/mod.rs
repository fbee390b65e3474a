//! Docker's default seccomp profile as a BPF program, compiled before the clone.
//!
//! One emitter for every architecture; where a kernel runs a second instruction set (x86 on x86-64, arm on arm64), the
//! program has a section for each, so that 32-bit images work. Source: seccomp(2), linux/filter.h, linux/audit.h.

mod table;

use std::collections::BTreeMap;

use crate::{Capabilities, Capability};

/// One instruction of classic BPF, as the kernel's `struct sock_filter`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if true.
    pub jump_true: u8,
    /// Instructions to skip if false.
    pub jump_false: u8,
    /// Operand.
    pub k: u32,
}

/// An instruction set that system calls can come from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86-64 (not x32: nothing allows its numbers).
    X86_64,
    /// 32-bit x86.
    X86,
    /// arm64.
    Aarch64,
    /// 32-bit ARM, EABI.
    Arm,
}

impl Arch {
    /// What this machine's kernel can run: its own, and the 32-bit one beside it.
    pub fn of_this_machine() -> &'static [Self] {
        if cfg!(target_arch = "x86_64") {
            &[Self::X86_64, Self::X86]
        } else if cfg!(target_arch = "aarch64") {
            &[Self::Aarch64, Self::Arm]
        } else if cfg!(target_arch = "arm") {
            // A 32-bit agent on a 64-bit kernel (Raspberry Pi OS) may run 64-bit images.
            &[Self::Arm, Self::Aarch64]
        } else {
            &[Self::X86, Self::X86_64]
        }
    }

    fn column(self) -> usize {
        match self {
            Self::X86_64 => 0,
            Self::X86 => 1,
            Self::Aarch64 => 2,
            Self::Arm => 3,
        }
    }

    /// `AUDIT_ARCH_…`: ELF machine, with bits for 64-bit and little-endian.
    fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }
}

/// What allows a row of the table.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Gate {
    Always,
    With(Capability),
    /// Depends on arguments; see [`action_of`].
    Special,
}

/// What the program does with a system call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Action {
    Allow,
    Errno(u16),
    /// `personality`: only these.
    FirstArgIn(&'static [u32]),
    /// `clone`: none of these bits (new namespaces).
    FirstArgWithout(u32),
    /// `socket`: none of these families.
    FirstArgNotIn(&'static [u32]),
}

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;
/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;
/// PER_LINUX, PER_LINUX32, UNAME26, both, and "ask".
const PERSONALITIES: &[u32] = &[0, 8, 0x2_0000, 0x2_0008, u32::MAX];
/// AF_ALG (kernel crypto, many holes), AF_VSOCK (the hypervisor's wire).
const FAMILIES_REFUSED: &[u32] = &[38, 40];

const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ERRNO: u32 = 0x0005_0000;

/// Offsets in `struct seccomp_data`; the first argument's low half (all these machines are little-endian).
const DATA_NR: u32 = 0;
const DATA_ARCH: u32 = 4;
const DATA_ARG0: u32 = 16;

/// Compiles Docker's default profile for a container that has `held` in its bounding set. What the profile does not
/// name is EPERM; so is every call from an instruction set that is not in `archs`.
pub fn default_profile(archs: &[Arch], held: Capabilities) -> Vec<Instruction> {
    let mut program = vec![plain(LOAD_WORD, DATA_ARCH)];
    for arch in archs {
        let section = section(*arch, held);
        program.push(jump(JUMP_EQUAL, arch.audit(), 1, 0));
        program.push(plain(JUMP, u32::try_from(section.len()).unwrap_or(u32::MAX)));
        program.extend(section);
    }
    program.push(plain(RETURN, RET_ERRNO | u32::from(EPERM)));
    program
}

/// Every number has a run of numbers with the same action; the runs are tried in order. (The kernel caches numbers that
/// are allowed whatever their arguments, so the length of the way is paid once.)
fn section(arch: Arch, held: Capabilities) -> Vec<Instruction> {
    let mut runs: Vec<(u32, Action)> = Vec::new();
    let mut next = 0;
    for (number, action) in actions(arch, held) {
        if number > next {
            extend(&mut runs, number - 1, Action::Errno(EPERM));
        }
        extend(&mut runs, number, action);
        next = number + 1;
    }
    let mut out = vec![plain(LOAD_WORD, DATA_NR)];
    for (last, action) in runs {
        let body = body(action);
        out.push(jump(JUMP_GREATER, last, u8::try_from(body.len()).unwrap_or(u8::MAX), 0));
        out.extend(body);
    }
    out.push(plain(RETURN, RET_ERRNO | u32::from(EPERM)));
    out
}

fn extend(runs: &mut Vec<(u32, Action)>, last: u32, action: Action) {
    match runs.last_mut() {
        Some(run) if run.1 == action => run.0 = last,
        Some(_) | None => runs.push((last, action)),
    }
}

fn actions(arch: Arch, held: Capabilities) -> BTreeMap<u32, Action> {
    let mut actions = BTreeMap::new();
    for (name, numbers, gate) in table::TABLE {
        let number = numbers.get(arch.column()).copied().and_then(|n| u32::try_from(n).ok());
        let action = match gate {
            Gate::Always => Some(Action::Allow),
            Gate::With(cap) => held.has(*cap).then_some(Action::Allow),
            Gate::Special => Some(action_of(name)),
        };
        if let (Some(number), Some(action)) = (number, action) {
            // What one row allows outright, a conditional row does not take back.
            let slot = actions.entry(number).or_insert(action);
            if action == Action::Allow {
                *slot = action;
            }
        }
    }
    actions
}

fn action_of(name: &str) -> Action {
    match name {
        "personality" => Action::FirstArgIn(PERSONALITIES),
        "clone" => Action::FirstArgWithout(CLONE_NAMESPACES),
        "socket" => Action::FirstArgNotIn(FAMILIES_REFUSED),
        // Its flags are behind a pointer that a filter cannot read: ENOSYS sends the C library to `clone`.
        "clone3" => Action::Errno(ENOSYS),
        _ => Action::Errno(EPERM),
    }
}

fn body(action: Action) -> Vec<Instruction> {
    let refuse = plain(RETURN, RET_ERRNO | u32::from(EPERM));
    let allow = plain(RETURN, RET_ALLOW);
    let mut out = Vec::new();
    match action {
        Action::Allow => out.push(allow),
        Action::Errno(errno) => out.push(plain(RETURN, RET_ERRNO | u32::from(errno))),
        Action::FirstArgWithout(bits) => {
            out.push(plain(LOAD_WORD, DATA_ARG0));
            out.extend([jump(JUMP_SET, bits, 1, 0), allow, refuse]);
        }
        Action::FirstArgIn(values) => {
            out.push(plain(LOAD_WORD, DATA_ARG0));
            for value in values {
                out.extend([jump(JUMP_EQUAL, *value, 0, 1), allow]);
            }
            out.push(refuse);
        }
        Action::FirstArgNotIn(values) => {
            out.push(plain(LOAD_WORD, DATA_ARG0));
            for value in values {
                out.extend([jump(JUMP_EQUAL, *value, 0, 1), refuse]);
            }
            out.push(allow);
        }
    }
    out
}

fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, k }
}

fn jump(code: u16, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SECCOMP_INSTRUCTIONS_MAX;

    const ARCHS: &[Arch] = &[Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm];

    /// What the kernel would do: the program on one system call.
    fn run(program: &[Instruction], arch: Arch, number: u32, arg0: u32) -> u32 {
        let (mut at, mut a) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            let taken = match step.code {
                LOAD_WORD => {
                    a = match step.k {
                        DATA_NR => number,
                        DATA_ARCH => arch.audit(),
                        DATA_ARG0 => arg0,
                        other => panic!("load of {other}"),
                    };
                    continue;
                }
                RETURN => return step.k,
                JUMP => {
                    at += step.k as usize;
                    continue;
                }
                JUMP_EQUAL => a == step.k,
                JUMP_GREATER => a > step.k,
                JUMP_SET => a & step.k != 0,
                other => panic!("instruction {other:#x}"),
            };
            at += usize::from(if taken { step.jump_true } else { step.jump_false });
        }
    }

    fn number(arch: Arch, name: &str) -> u32 {
        let row = table::TABLE.iter().find(|row| row.0 == name).unwrap();
        u32::try_from(row.1[arch.column()]).unwrap()
    }

    #[test]
    fn the_profile_is_dockers() {
        let refused = RET_ERRNO | u32::from(EPERM);
        let default = default_profile(ARCHS, Capabilities::DEFAULT);
        let all = default_profile(ARCHS, Capabilities::all());
        assert!(all.len() < SECCOMP_INSTRUCTIONS_MAX && default.len() < SECCOMP_INSTRUCTIONS_MAX);
        let check = |program: &[Instruction], arch, name, arg0, want| {
            let got = run(program, arch, number(arch, name), arg0);
            assert_eq!(got, want, "{arch:?} {name}({arg0:#x})");
        };
        for arch in ARCHS {
            check(&default, *arch, "read", 0, RET_ALLOW);
            check(&default, *arch, "execve", 0, RET_ALLOW);
            check(&default, *arch, "chroot", 0, RET_ALLOW);
            check(&default, *arch, "ptrace", 0, RET_ALLOW);
            check(&default, *arch, "mount", 0, refused);
            check(&default, *arch, "unshare", 0, refused);
            check(&default, *arch, "setns", 0, refused);
            check(&default, *arch, "bpf", 0, refused);
            check(&default, *arch, "reboot", 0, refused);
            check(&default, *arch, "finit_module", 0, refused);
            check(&default, *arch, "open_by_handle_at", 0, refused);
            check(&default, *arch, "clone", 17, RET_ALLOW);
            check(&default, *arch, "clone", 0x1000_0011, refused);
            check(&default, *arch, "clone3", 0, RET_ERRNO | u32::from(ENOSYS));
            check(&default, *arch, "socket", 2, RET_ALLOW);
            check(&default, *arch, "socket", 40, refused);
            check(&default, *arch, "socket", 38, refused);
            check(&default, *arch, "personality", 8, RET_ALLOW);
            check(&default, *arch, "personality", 1, refused);
            check(&all, *arch, "mount", 0, RET_ALLOW);
            check(&all, *arch, "clone", 0x1000_0011, RET_ALLOW);
            check(&all, *arch, "clone3", 0, RET_ALLOW);
            for nowhere in [0x4000_0000, 0x4000_0000 | 1, u32::MAX, 5000] {
                assert_eq!(run(&default, *arch, nowhere, 0), refused, "{arch:?} {nowhere:#x}");
            }
        }
        // io_uring, keyctl, kexec_load and userfaultfd are in no list of the profile.
        for number in [425, 426, 427, 250, 246, 323] {
            assert_eq!(run(&all, Arch::X86_64, number, 0), refused, "x86-64 {number}");
        }
        check(&default, Arch::Arm, "cacheflush", 0, RET_ALLOW);
        check(&default, Arch::X86_64, "arch_prctl", 0, RET_ALLOW);
    }

    #[test]
    fn every_row_is_decided_as_its_gate_says() {
        let program = default_profile(ARCHS, Capabilities::EMPTY);
        for (name, numbers, gate) in table::TABLE {
            for (arch, number) in ARCHS.iter().zip(numbers) {
                if let (Ok(number), Gate::Always) = (u32::try_from(*number), gate) {
                    assert_eq!(run(&program, *arch, number, 0), RET_ALLOW, "{arch:?} {name}");
                }
            }
        }
        let foreign = default_profile(&[Arch::Aarch64], Capabilities::all());
        assert_eq!(run(&foreign, Arch::X86_64, 0, 0), RET_ERRNO | u32::from(EPERM));
    }
}
