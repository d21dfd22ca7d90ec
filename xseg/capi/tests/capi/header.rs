//! The header says what the library does: every offset, size and number, and every function.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fmt::Write;
use std::mem::{offset_of, size_of};

use xseg::protocol::{CloneRequest, NameRequest, Operation, flags, mapflags};
use xseg_c::abi::{self, posixfd_signal_desc, xseg_port, xseg_request};
use xseg_c::ffi::xseg_transfer_spec;

use crate::compiler;

/// A C program that does not compile unless the header agrees.
struct Claims(String);

impl Claims {
    fn new() -> Claims {
        Claims("#include <xseg/xseg.h>\n#include <xseg/protocol.h>\n".into())
    }

    fn equal(&mut self, what: &str, value: u64) {
        let said = format!("_Static_assert(({what}) == {value}ULL, \"{what} is {value}\");");
        writeln!(self.0, "{said}").unwrap();
    }

    fn size(&mut self, name: &str, size: usize) {
        self.equal(&format!("sizeof(struct {name})"), size as u64);
    }

    fn offset(&mut self, name: &str, field: &str, offset: usize) {
        self.equal(&format!("offsetof(struct {name}, {field})"), offset as u64);
    }
}

macro_rules! claim_struct {
    ($claims:ident, $name:ident { $($field:ident),* $(,)? }) => {
        $claims.size(stringify!($name), size_of::<$name>());
        $($claims.offset(stringify!($name), stringify!($field), offset_of!($name, $field));)*
    };
}

fn ours(claims: &mut Claims) {
    claim_struct!(claims, xseg_port { portno, owner });
    claim_struct!(
        claims,
        posixfd_signal_desc {
            signal_file,
            fd,
            flag
        }
    );
    claim_struct!(
        claims,
        xseg_request {
            serial,
            offset,
            size,
            serviced,
            v0_size,
            data,
            datalen,
            target,
            targetlen,
            op,
            state,
            flags,
            src_portno,
            transit_portno,
            dst_portno,
            effective_dst_portno,
            buffer,
            bufferlen,
            task,
            timestamp,
            elapsed,
            error,
        }
    );
    claims.offset("xseg_request", "priv", offset_of!(xseg_request, private));
    claim_struct!(
        claims,
        xseg_transfer_spec {
            op,
            flags,
            v0_size,
            offset,
            dst,
            targetlen,
            target,
            data,
            datalen,
        }
    );
}

/// The layouts of `spec/protocol.md` section 1.
fn structures(claims: &mut Claims) {
    claims.size("xseg_reply_info", 8);
    claims.size("xseg_reply_map", 8);
    claims.offset("xseg_reply_map", "segs", 8);
    claims.size("xseg_reply_map_scatterlist", 280);
    for (field, offset) in [
        ("flags", 256),
        ("targetlen", 260),
        ("offset", 264),
        ("size", 272),
    ] {
        claims.offset("xseg_reply_map_scatterlist", field, offset);
    }
    claims.size("xseg_request_create", 12);
    claims.offset("xseg_request_create", "segs", 12);
    claims.size("xseg_create_map_scatterlist", 264);
    claims.offset("xseg_create_map_scatterlist", "targetlen", 256);
    claims.offset("xseg_create_map_scatterlist", "flags", 260);
    claims.size("xseg_request_clone", CloneRequest::LEN);
    claims.offset("xseg_request_clone", "size", 264);
    for name in [
        "request_copy",
        "request_snapshot",
        "request_rename",
        "reply_hash",
    ] {
        claims.size(&format!("xseg_{name}"), NameRequest::LEN);
        claims.offset(&format!("xseg_{name}"), "targetlen", 256);
    }
}

fn numbers(claims: &mut Claims) {
    let names = [
        ("MapRead", "MAPR"),
        ("MapWrite", "MAPW"),
        // Between peers.
        ("Fence", ""),
        ("SyncTag", ""),
        ("AwaitLock", ""),
        // For the tools alone.
        ("Migrate", ""),
    ];
    for &operation in Operation::ALL {
        let rust = format!("{operation:?}");
        let known = names.iter().find(|(name, _)| *name == rust);
        let c = known.map_or(rust.to_uppercase(), |(_, c)| (*c).to_owned());
        if !c.is_empty() {
            claims.equal(&format!("X_{c}"), operation as u64);
        }
    }
    for (name, value) in [
        ("XF_NOSYNC", flags::NOSYNC),
        ("XF_FLUSH", flags::FLUSH),
        ("XF_FUA", flags::FUA),
        ("XF_FORCE", flags::FORCE),
        ("XF_ASSUMEV0", flags::ASSUME_V0),
        ("XF_SHRINK", flags::SHRINK),
        ("XF_PEEK", flags::PEEK),
        ("XF_MAPFLAG_READONLY", mapflags::READONLY),
        ("XF_MAPFLAG_ZERO", mapflags::ZERO),
        ("XS_SERVED", abi::state::SERVED),
        ("XS_FAILED", abi::state::FAILED),
        ("NoPort", abi::NO_PORT),
        ("XSEG_MAX_TARGETLEN", abi::TARGET_MAX as u32),
    ] {
        claims.equal(name, value.into());
    }
}

#[test]
fn offsets_and_numbers_are_the_same_in_c() {
    let mut claims = Claims::new();
    ours(&mut claims);
    structures(&mut claims);
    numbers(&mut claims);
    claims.0 += "int main(void) { return xseg_initialize(); }\n";
    let folder = compiler::folder();
    let source = folder.path().join("claims.c");
    std::fs::write(&source, claims.0).unwrap();
    compiler::compile(&source, folder.path());
}

/// Every `xseg_NAME(` of the header outside comments.
fn declared() -> BTreeSet<String> {
    let header = std::fs::read_to_string(compiler::include().join("xseg/xseg.h")).unwrap();
    let code: String = header
        .split("/*")
        .map(|part| part.split_once("*/").map_or(part, |(_, code)| code))
        .collect();
    let calls = code.split('(').filter_map(|before| {
        let word = before
            .rsplit(|c: char| !c.is_alphanumeric() && c != '_')
            .next()?;
        word.starts_with("xseg_").then(|| word.to_owned())
    });
    calls.collect()
}

/// Every function that the source marks as one for C.
fn defined() -> BTreeSet<String> {
    let sources = ["ports", "requests", "transfers"];
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ffi");
    let mut names = BTreeSet::new();
    for file in sources {
        let text = std::fs::read_to_string(folder.join(format!("{file}.rs"))).unwrap();
        for part in text.split("extern \"C\" fn ").skip(1) {
            let name = part.split('(').next().unwrap_or_default();
            if name.starts_with("xseg_") {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

#[test]
fn the_header_declares_what_the_library_has() {
    assert_eq!(declared(), defined());
    assert!(declared().len() > 25);
    let path = CString::new(compiler::library().to_str().unwrap()).unwrap();
    // SAFETY: a path that ends with a NUL; the library has no initialisers with effects.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    assert!(!library.is_null());
    for name in declared() {
        let symbol = CString::new(name.as_str()).unwrap();
        // SAFETY: a handle that dlopen returned, and a name that ends with a NUL.
        let found = unsafe { libc::dlsym(library, symbol.as_ptr()) };
        assert!(!found.is_null(), "{name} is not exported");
    }
}
