//! Extended attributes and POSIX ACLs.
//!
//! `setx`, `getx`, `listx`, `rmx` follow symlinks; with a leading `l` they do not; with a leading `f`
//! the second word is a descriptor. ACLs are written as `u::rwx,u:1001:rw,g::r,m::rwx,o::-`.

use std::ffi::CString;

use super::{Args, Outcome, Shell, done, show};
use crate::common::raw::{self, On};

/// The largest value and list of names that the kernel moves.
const ROOM: usize = 64 << 10;

pub(super) fn call(shell: &mut Shell, args: &Args) -> Option<Outcome> {
    let operation = args.text(0);
    let known = ["setx", "getx", "listx", "rmx", "setacl", "getacl"];
    let (how, name) = match operation.split_at_checked(1) {
        _ if known.contains(&operation) => ("", operation),
        Some((how @ ("l" | "f"), name)) if known.contains(&name) => (how, name),
        _ => return None,
    };
    let path = match how {
        "f" => CString::default(),
        _ => match raw::c_path(&args.path(shell, 1)) {
            Ok(path) => path,
            Err(errno) => return Some(Err(errno)),
        },
    };
    let on = match how {
        "f" => On::Fd(std::os::fd::AsFd::as_fd(shell.fd(args.text(1)))),
        "l" => On::Link(&path),
        _ => On::Path(&path),
    };
    Some(match name {
        "setx" => raw::set_xattr(on, &attribute(args), &args.data(3), set_flags(args))
            .map(|()| String::new()),
        "getx" => get(on, args),
        "listx" => list(on, args),
        "rmx" => done(raw::remove_xattr(on, &attribute(args))),
        "setacl" => done(raw::set_xattr(on, acl_name(args), &acl_bytes(args.text(3)), 0)),
        _ => raw::get_xattr(on, acl_name(args), ROOM).map(|(_, bytes)| acl_text(&bytes)),
    })
}

fn attribute(args: &Args) -> CString {
    CString::new(args.os(2).as_encoded_bytes()).expect("no NUL in the name of an attribute")
}

fn set_flags(args: &Args) -> i32 {
    match args.words.get(4).map(Vec::as_slice) {
        None => 0,
        Some(b"create") => libc::XATTR_CREATE,
        Some(b"replace") => libc::XATTR_REPLACE,
        Some(other) => panic!("no such flag of setxattr: {}", show(other)),
    }
}

/// `getx PATH NAME [ROOM]`: the value; with room 0 its size.
fn get(on: On<'_>, args: &Args) -> Outcome {
    let room = if args.has(3) { args.size(3) } else { ROOM };
    let (length, value) = raw::get_xattr(on, &attribute(args), room)?;
    Ok(if room == 0 { format!("size {length}") } else { show(&value) })
}

/// `listx PATH [ROOM]`: the names, sorted; with room 0 the size.
fn list(on: On<'_>, args: &Args) -> Outcome {
    let room = if args.has(2) { args.size(2) } else { ROOM };
    let (length, names) = raw::list_xattr(on, room)?;
    if room == 0 {
        return Ok(format!("size {length}"));
    }
    let mut names: Vec<String> =
        names.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(show).collect();
    names.sort();
    Ok(names.join(" "))
}

/// `setacl PATH access|default ACL`, `getacl PATH access|default`
fn acl_name(args: &Args) -> &'static std::ffi::CStr {
    match args.text(2) {
        "access" => c"system.posix_acl_access",
        "default" => c"system.posix_acl_default",
        other => panic!("no such ACL: {other}"),
    }
}

const TAGS: [(u16, &str); 6] =
    [(0x01, "u:"), (0x02, "u"), (0x04, "g:"), (0x08, "g"), (0x10, "m:"), (0x20, "o:")];
const NO_ID: u32 = u32::MAX;

/// The form in which the kernel takes an ACL: a version, then tag, permissions and id of each entry.
fn acl_bytes(text: &str) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for entry in text.split(',') {
        let parts: Vec<&str> = entry.split(':').collect();
        let [kind, id, permissions] = parts[..] else { panic!("not an ACL entry: {entry}") };
        let name = if id.is_empty() { format!("{kind}:") } else { kind.to_owned() };
        let tag = TAGS.iter().find(|(_, known)| *known == name).expect("u, g, m or o").0;
        let bits = permissions.chars().fold(0u16, |bits, letter| {
            bits | match letter {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                _ => 0,
            }
        });
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&bits.to_le_bytes());
        bytes.extend_from_slice(&id.parse().unwrap_or(NO_ID).to_le_bytes());
    }
    bytes
}

fn acl_text(bytes: &[u8]) -> String {
    let entries = bytes.get(4..).unwrap_or_default().chunks_exact(8).map(|entry| {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let name = TAGS.iter().find(|(known, _)| *known == tag).map_or("?", |(_, name)| name);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let id = if id == NO_ID { String::new() } else { format!(":{id}") };
        let letter = |bit: u8, letter: char| if entry[2] & bit == 0 { '-' } else { letter };
        format!("{name}{id}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x'))
    });
    entries.collect::<Vec<_>>().join(",")
}
