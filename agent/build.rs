//! Links what goes onto terminals smaller: equal functions once, no unwinding tables.
//!
//! Only in the `dist` profile (optimised for size, a panic aborts), and only for the target whose toolchain brings the
//! linker that understands it.

fn main() {
    println!("cargo:rerun-if-changed=size.ld");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if !is("OPT_LEVEL", "z") || !is("TARGET", "x86_64-unknown-linux-gnu") {
        return;
    }
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    for argument in ["--icf=all".to_owned(), "--no-eh-frame-hdr".to_owned(), format!("-T,{folder}/size.ld")] {
        println!("cargo:rustc-link-arg-bin=tillward-agent=-Wl,{argument}");
    }
}
