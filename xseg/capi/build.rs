//! The soname under which old clients look for the library (`spec/qemu.md` section 2).

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libxseg.so.0");
}
