//! Links `coracle-agent` to a fixed address where the C library allows it: what the loader would relocate (110 KB) is
//! copied for each process otherwise, and every pod has one, its shim.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu") {
        println!("cargo:rustc-link-arg-bin=coracle-agent=-no-pie");
    }
}
