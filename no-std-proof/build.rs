//! Links the library against nothing at all.

fn main() {
    // With `-z defs` an undefined symbol is an error: no malloc, no memcpy but the compiler's own, no expf.
    for arg in ["-nostdlib", "-nostartfiles", "-nodefaultlibs", "-Wl,-z,defs"] {
        println!("cargo:rustc-link-arg-cdylib={arg}");
    }
}
