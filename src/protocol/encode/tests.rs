//! Replies, byte by byte.

use super::*;
use crate::abi::Attr;
use crate::protocol::golden::Wire;

const NAME: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

fn entry(name: &[u8]) -> DirEntry<'_> {
    DirEntry { ino: 0x1234_5678_9abc_def0, next_offset: u64::MAX - 1, kind: 8, name }
}

/// `FUSE_DIRENT_SIZE`: 24 bytes and the name, rounded up to 8.
fn dirent_size(name_len: usize) -> usize {
    (24 + name_len).div_ceil(8) * 8
}

fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("test sizes are small")
}

#[test]
fn a_header_counts_itself_and_the_body() {
    let golden = |len, error: i32| {
        Wire::default().u32(len).u32(error.cast_unsigned()).u64(0x1122_3344_5566_7788).end()
    };
    let header = |result| header(0x1122_3344_5566_7788, result).as_bytes().to_vec();
    assert_eq!(header(Ok(0)), golden(16, 0));
    assert_eq!(header(Ok(128)), golden(144, 0));
    assert_eq!(header(Ok(1 << 20)), golden((1 << 20) + 16, 0));
    assert_eq!(header(Err(Errno::ENOENT)), golden(16, -2));
    assert_eq!(header(Err(Errno::ENOSYS)), golden(16, -38));
}

#[test]
fn an_error_never_reads_as_success_and_never_as_one_the_kernel_refuses() {
    for raw in -1..600 {
        let error = header(1, Err(Errno::from_raw(raw))).error;
        // 0 would be success, and `fuse_dev_do_write` refuses what is above, or -512 and below.
        assert!((-511..=-1).contains(&error), "errno {raw} went out as {error}");
        if Errno::from_raw(raw) == Errno::UnknownErrno {
            assert_eq!(error, -5, "errno {raw} without a name is EIO");
        } else {
            assert_eq!(error, -raw);
        }
    }
}

#[test]
fn fixed_parts_go_out_before_the_payload_in_the_order_of_put() {
    let mut buffer = [0xaa; 16];
    let mut reply = ReplyBuf::new(&mut buffer);
    assert_eq!(reply.parts(), (&[][..], &[][..]));
    reply.payload().extend(b"data").expect("fits");
    reply.put(&1_u64);
    reply.put(&2_u32);
    let fixed = Wire::default().u64(1).u32(2).end();
    assert_eq!(reply.parts(), (&fixed[..], &b"data"[..]));
}

#[test]
fn the_longest_fixed_part_fits() {
    let mut reply = ReplyBuf::new(&mut []);
    reply.put(&crate::abi::StatxOut::default());
    assert_eq!(reply.parts().0.len(), FIXED_MAX);
    let mut reply = ReplyBuf::new(&mut []);
    reply.put(&EntryOut::default());
    reply.put(&crate::abi::OpenOut::default());
    assert_eq!(reply.parts().0.len(), 128 + 16);
}

#[test]
fn a_payload_takes_what_fits_and_nothing_of_what_does_not() {
    let mut buffer = [0; 10];
    let mut reply = ReplyBuf::new(&mut buffer);
    let payload = reply.payload();
    payload.extend(b"123456").expect("6 of 10");
    assert_eq!(payload.extend(b"12345"), Err(Errno::ERANGE));
    assert_eq!(payload.filled(), b"123456");
    payload.extend(b"7890").expect("exactly full");
    assert_eq!(payload.extend(b"x"), Err(Errno::ERANGE));
    payload.extend(b"").expect("nothing always fits");
    assert_eq!(payload.filled(), b"1234567890");
    assert!(payload.spare(usize::MAX).is_empty());
}

#[test]
fn spare_is_what_is_free_up_to_the_limit() {
    let mut buffer = [0; 10];
    let mut reply = ReplyBuf::new(&mut buffer);
    let payload = reply.payload();
    payload.extend(b"1234").expect("fits");
    assert_eq!(payload.spare(0).len(), 0);
    assert_eq!(payload.spare(5).len(), 5);
    assert_eq!(payload.spare(usize::MAX).len(), 6);
    payload.spare(2).copy_from_slice(b"56");
    assert_eq!(payload.filled(), b"1234", "spare bytes count only when they are counted");
    payload.advance(2);
    assert_eq!(payload.filled(), b"123456");
}

#[test]
fn a_directory_entry_is_padded_to_8_bytes_with_zeros() {
    for len in 1..=NAME.len() {
        let mut buffer = [0xaa; 64];
        let mut reply = ReplyBuf::new(&mut buffer);
        DirSink::new(reply.payload(), 64).push(entry(&NAME[..len])).expect("fits");
        let expected = Wire::default()
            .u64(0x1234_5678_9abc_def0)
            .u64(u64::MAX - 1)
            .u32(size(len))
            .u32(8)
            .bytes(&NAME[..len])
            .zeros(dirent_size(len) - 24 - len)
            .end();
        assert_eq!(reply.parts(), (&[][..], &expected[..]), "name of {len} bytes");
    }
}

#[test]
fn a_readdirplus_entry_is_a_lookup_and_a_directory_entry() {
    let attr = Attr { ino: 9, mode: 0o100_644, flags: 0xff, ..Attr::default() };
    let lookup = EntryOut { nodeid: 5, generation: 6, attr, ..EntryOut::default() };
    let mut buffer = [0xaa; 256];
    let mut reply = ReplyBuf::new(&mut buffer);
    DirSink::new(reply.payload(), 256).push_plus(entry(b"abc"), &lookup).expect("fits");
    let expected = Wire::default()
        .u64(5)
        .u64(6)
        .zeros(24)
        .u64(9) // attr.ino
        .zeros(52)
        .u32(0o100_644)
        .zeros(20)
        .u32(0xff) // attr.flags
        .u64(0x1234_5678_9abc_def0)
        .u64(u64::MAX - 1)
        .u32(3)
        .u32(8)
        .bytes(b"abc")
        .zeros(5)
        .end();
    assert_eq!(expected.len(), 128 + 32);
    assert_eq!(reply.parts().1, expected);
}

#[test]
fn an_entry_fits_down_to_the_last_byte() {
    let longest = [b'n'; 255];
    for len in (1..=NAME.len()).chain([247, 248, 249, 254, 255]) {
        let name = &longest[..len];
        let plain = dirent_size(len);
        for (limit, fits) in [(0, false), (plain - 1, false), (plain, true), (plain + 1, true)] {
            let mut buffer = [0; 1024];
            let mut reply = ReplyBuf::new(&mut buffer);
            let mut sink = DirSink::new(reply.payload(), size(limit));
            assert_eq!(sink.push(entry(name)).is_ok(), fits, "{len} into {limit}");
            assert_eq!(sink.is_empty(), !fits);
            assert_eq!(reply.parts().1.len(), if fits { plain } else { 0 });
        }
        let plus = 128 + plain;
        for (limit, fits) in [(plain, false), (plus - 1, false), (plus, true), (plus + 1, true)] {
            let mut buffer = [0; 1024];
            let mut reply = ReplyBuf::new(&mut buffer);
            let mut sink = DirSink::new(reply.payload(), size(limit));
            assert_eq!(sink.fits_plus(len), fits, "{len} into {limit}");
            assert_eq!(sink.push_plus(entry(name), &EntryOut::default()).is_ok(), fits);
            assert_eq!(reply.parts().1.len(), if fits { plus } else { 0 });
        }
    }
}

#[test]
fn a_directory_fills_the_smaller_of_what_was_asked_and_the_buffer() {
    // 32 bytes an entry.
    for (asked, room, expected) in [(100, 4096, 3), (96, 4096, 3), (95, 4096, 2), (4096, 70, 2)] {
        let mut buffer = vec![0; room];
        let mut reply = ReplyBuf::new(&mut buffer);
        let mut sink = DirSink::new(reply.payload(), asked);
        let pushed = (0..100).take_while(|_| sink.push(entry(b"abc")).is_ok()).count();
        assert_eq!(pushed, expected, "{asked} asked of {room}");
        assert_eq!(sink.push(entry(b"abc")), Err(Full), "full stays full");
        assert_eq!(reply.parts().1.len(), expected * 32);
    }
    let mut reply = ReplyBuf::new(&mut []);
    assert_eq!(DirSink::new(reply.payload(), u32::MAX).push(entry(b"a")), Err(Full));
}

#[test]
fn what_is_too_long_leaves_room_for_what_is_shorter() {
    let mut buffer = [0; 64];
    let mut reply = ReplyBuf::new(&mut buffer);
    let mut sink = DirSink::new(reply.payload(), 64);
    sink.push(entry(b"abc")).expect("32 of 64");
    assert_eq!(sink.push(entry(b"123456789")), Err(Full));
    sink.push(entry(b"12345678")).expect("exactly the rest");
    assert_eq!(reply.parts().1.len(), 64);
}

#[test]
fn a_sink_behind_other_payload_counts_from_there() {
    let mut buffer = [0; 128];
    let mut reply = ReplyBuf::new(&mut buffer);
    reply.payload().extend(&[1; 8]).expect("fits");
    let mut sink = DirSink::new(reply.payload(), 32);
    sink.push(entry(b"abc")).expect("32 bytes were asked for");
    assert_eq!(sink.push(entry(b"abc")), Err(Full));
    assert_eq!(reply.parts().1.len(), 40);
}
