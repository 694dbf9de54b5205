//! What comes of what the kernel offers.

use super::*;
use crate::protocol::golden::Wire;
use zerocopy::IntoBytes;

/// What Linux 6.18 offers.
const LINUX_6_18: (u32, u32) = (0x73ff_fffb, 0x0000_07fd);

fn offer(minor: u32, flags: u32) -> InitIn {
    InitIn { major: 7, minor, max_readahead: 128 << 10, flags }
}

fn wanted(flags: InitFlags) -> Wanted {
    Wanted { flags, ..Wanted::default() }
}

fn low(flags: InitFlags) -> u32 {
    words(flags).0
}

#[test]
fn what_is_both_offered_and_wanted_is_in_force() {
    let wanted = wanted(Wanted::BASE | InitFlags::PASSTHROUGH | InitFlags::OVER_IO_URING);
    let (negotiated, out) =
        negotiate(&offer(45, LINUX_6_18.0), LINUX_6_18.1, &wanted).expect("served");
    assert_eq!(negotiated.minor, 45);
    assert_eq!(negotiated.flags, wanted.flags);
    let answered = u64::from(out.flags) | u64::from(out.flags2) << 32;
    assert_eq!(answered, negotiated.flags.bits(), "the kernel hears what is in force");
    assert_eq!(negotiated.offered.bits(), 0x07fd_73ff_fffb);
    assert_eq!((negotiated.max_stack_depth, out.max_stack_depth), (1, 1));

    let fewer = LINUX_6_18.0 & !low(InitFlags::PARALLEL_DIROPS);
    let (negotiated, _) = negotiate(&offer(45, fewer), 0, &wanted).expect("served");
    let missing = InitFlags::PARALLEL_DIROPS
        | InitFlags::PASSTHROUGH
        | InitFlags::OVER_IO_URING
        | InitFlags::NO_EXPORT_SUPPORT;
    assert_eq!(negotiated.flags, wanted.flags - missing);
    assert_eq!(negotiated.max_stack_depth, 0, "means nothing without PASSTHROUGH");
}

#[test]
fn nothing_is_taken_that_was_not_offered_or_not_wanted() {
    for bit in 0..64 {
        let flag = InitFlags::from_bits_retain(1 << bit);
        let (low, high) = words(flag | InitFlags::INIT_EXT);
        let all = wanted(InitFlags::from_bits_retain(u64::MAX));
        let (negotiated, _) = negotiate(&offer(45, low), high, &all).expect("served");
        assert_eq!(negotiated.flags, flag | InitFlags::INIT_EXT, "offered only bit {bit}");
        let one = wanted(flag | InitFlags::INIT_EXT);
        let (negotiated, _) = negotiate(&offer(45, u32::MAX), u32::MAX, &one).expect("served");
        assert_eq!(negotiated.flags, flag | InitFlags::INIT_EXT, "wanted only bit {bit}");
    }
}

#[test]
fn the_second_word_counts_only_with_init_ext() {
    let both = InitFlags::PASSTHROUGH | InitFlags::INIT_EXT;
    let (low_both, high) = words(both);
    let (negotiated, out) = negotiate(&offer(45, 0), high, &wanted(both)).expect("served");
    assert_eq!(negotiated.flags, InitFlags::empty(), "the kernel did not fill it in");
    assert_eq!((out.flags2, out.max_stack_depth), (0, 0));
    let only = wanted(InitFlags::PASSTHROUGH);
    let (negotiated, out) = negotiate(&offer(45, low_both), high, &only).expect("served");
    assert_eq!(negotiated.flags, InitFlags::empty(), "the kernel would not read it");
    assert_eq!((out.flags2, out.max_stack_depth), (0, 0));
}

#[test]
fn the_reply_in_bytes() {
    let (_, out) =
        negotiate(&offer(45, LINUX_6_18.0), LINUX_6_18.1, &Wanted::default()).expect("served");
    let golden = Wire::default()
        .u32(7)
        .u32(45)
        .u32(128 << 10) // max_readahead
        .u32(0x6064_8821) // flags
        .u16(64) // max_background
        .u16(48) // congestion_threshold
        .u32(1 << 20) // max_write
        .u32(1) // time_gran
        .u16(256) // max_pages
        .u16(0) // map_alignment
        .u32(0x40) // flags2
        .u32(0) // max_stack_depth
        .u16(0) // request_timeout
        .zeros(22)
        .end();
    assert_eq!(out.as_bytes(), golden);
}

#[test]
fn the_lower_minor_is_in_force() {
    for (kernel, expected) in [(31, 31), (36, 36), (44, 44), (45, 45), (46, 45), (u32::MAX, 45)] {
        let (negotiated, out) =
            negotiate(&offer(kernel, 0), 0, &Wanted::default()).expect("served");
        assert_eq!(negotiated.minor, expected, "kernel speaks 7.{kernel}");
        assert_eq!((out.major, out.minor), (7, 45));
    }
}

#[test]
fn kernels_before_5_4_are_refused_by_name() {
    for minor in [0, 1, 12, 23, 30] {
        let error = negotiate(&offer(minor, u32::MAX), 0, &Wanted::default()).expect_err("old");
        assert_eq!(error, InitError::Minor(minor));
        let text = error.to_string();
        assert!(text.contains(&format!("7.{minor},")) && text.contains("7.31"), "{text}");
    }
}

#[test]
fn another_major_is_told_apart_from_an_old_minor() {
    for major in [0, 1, 6, 8, u32::MAX] {
        let args = InitIn { major, ..offer(0, 0) };
        let error = negotiate(&args, 0, &Wanted::default()).expect_err("another protocol");
        assert_eq!(error, InitError::Major(major));
    }
}

#[test]
fn without_max_pages_a_write_has_32_pages_at_most() {
    let page = 4096;
    let without = low(Wanted::BASE - InitFlags::MAX_PAGES);
    for (asked, offered, max_write, max_pages) in [
        (1 << 20, without, 32 * page, 32),
        (8 * page, without, 8 * page, 8),
        (0, without, page, 1),
        (1 << 20, low(Wanted::BASE), 1 << 20, 256),
        (page, low(Wanted::BASE), page, 1),
        (0, low(Wanted::BASE), page, 1),
        (u32::MAX, low(Wanted::BASE), u32::MAX, u16::MAX),
    ] {
        let wanted = Wanted { max_write: asked, ..Wanted::default() };
        let (negotiated, out) = negotiate(&offer(45, offered), 0, &wanted).expect("served");
        assert_eq!((negotiated.max_write, out.max_write), (max_write, max_write), "{asked}");
        assert_eq!(out.max_pages, max_pages, "{asked}");
    }
}

#[test]
fn every_named_flag_is_wanted_by_everyone_or_has_a_reason_of_its_own() {
    let fallback = refusal(InitFlags::from_bits_retain(1 << 63));
    for (name, flag) in InitFlags::all().iter_names() {
        let reason = refusal(flag);
        assert!(
            Wanted::BASE.contains(flag) || reason != fallback,
            "{name} may be refused, but refusal() does not say why"
        );
    }
}

#[test]
fn flags_have_the_kernels_numbers() {
    for (flag, bit) in [
        (InitFlags::ASYNC_READ, 0),
        (InitFlags::ATOMIC_O_TRUNC, 3),
        (InitFlags::DONT_MASK, 6),
        (InitFlags::DO_READDIRPLUS, 13),
        (InitFlags::WRITEBACK_CACHE, 16),
        (InitFlags::PARALLEL_DIROPS, 18),
        (InitFlags::POSIX_ACL, 20),
        (InitFlags::MAX_PAGES, 22),
        (InitFlags::HANDLE_KILLPRIV_V2, 28),
        (InitFlags::SETXATTR_EXT, 29),
        (InitFlags::INIT_EXT, 30),
        (InitFlags::SECURITY_CTX, 32),
        (InitFlags::CREATE_SUPP_GROUP, 34),
        (InitFlags::PASSTHROUGH, 37),
        (InitFlags::NO_EXPORT_SUPPORT, 38),
        (InitFlags::ALLOW_IDMAP, 40),
        (InitFlags::OVER_IO_URING, 41),
        (InitFlags::REQUEST_TIMEOUT, 42),
    ] {
        assert_eq!(flag.bits(), 1 << bit, "{flag:?}");
    }
}
