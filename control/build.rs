//! Links the release build of `coracle` small, with the linker that comes with Rust. Where there is none, or another one
//! was chosen, it links as always and is only larger.
//!
//! - Equal functions are one (`--icf`): nothing here compares the addresses of functions.
//! - What the loader relocates is listed in a bit map (RELR) of 3 KB, not in a table of 210 KB that each start reads.
//! - Code that is seldom used lies together, away from the rest: what lies beside used code is mapped with it.
//! - Tables for unwinding stay out: a release build aborts on a panic, and has no names for a backtrace. 0.8 MB.

use std::{env, fs, path::PathBuf, process::Command};

/// What only a start needs, then what only the other subcommands and YAML need; by parts of symbols. What else is seldom
/// called, as a profile has it, is listed in `seldom.txt`.
const SELDOM: [&str; 10] = [
    "clap_builder",
    "7coracle3cli",
    "serde_saphyr",
    "granit_parser",
    "annotate_snippets",
    "ureq",
    "7coracle2up",
    "7coracle6client",
    "7coracle7offline",
    "7coracle5token",
];

/// lld applies it beside its own script.
fn script(listed: &str) -> String {
    let listed = listed.lines().filter(|line| !line.starts_with('#'));
    let parts = SELDOM.into_iter().chain(listed);
    let seldom: String = parts.map(|part| format!("*(.text.*{part}*) ")).collect();
    format!(
        "SECTIONS {{ .text.seldom : {{ {seldom}}} \
         /DISCARD/ : {{ *(.eh_frame) *(.eh_frame_hdr) *(.gcc_except_table*) }} }} INSERT AFTER .text;\n"
    )
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RUSTC_LINKER");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if !is("PROFILE", "release") || !is("CARGO_CFG_TARGET_ENV", "gnu") || linker_was_chosen() {
        return;
    }
    // Builds for boards, which do not read it, are not made anew for it.
    println!("cargo:rerun-if-changed=seldom.txt");
    let (Some(tools), Some(out)) = (bundled_lld(), env::var_os("OUT_DIR")) else { return };
    let script = PathBuf::from(out).join("coracle.ld");
    let listed = fs::read_to_string("seldom.txt");
    if let Err(error) = listed.and_then(|listed| fs::write(&script, self::script(&listed))) {
        println!("cargo:warning=cannot write {}: {error}", script.display());
        return;
    }
    for argument in [
        format!("-B{}", tools.display()),
        "-fuse-ld=lld".into(),
        "-Wl,--icf=all".into(),
        "-Wl,-z,pack-relative-relocs".into(),
        format!("-Wl,-T,{}", script.display()),
    ] {
        println!("cargo:rustc-link-arg-bin=coracle={argument}");
    }
}

fn linker_was_chosen() -> bool {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    env::var_os("RUSTC_LINKER").is_some() || flags.contains("link") || flags.contains("panic")
}

/// The directory of the `ld.lld` that `rustup` installs with the compiler.
fn bundled_lld() -> Option<PathBuf> {
    let asked = Command::new(env::var_os("RUSTC")?).args(["--print", "sysroot"]).output().ok()?;
    let sysroot = PathBuf::from(String::from_utf8(asked.stdout).ok()?.trim());
    let tools = sysroot.join("lib/rustlib").join(env::var_os("HOST")?).join("bin/gcc-ld");
    tools.join("ld.lld").exists().then_some(tools)
}
