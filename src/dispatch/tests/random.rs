//! Arbitrary requests all the way to a file system and back: no panic, at most one call each.

use std::ffi::CStr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use proptest::prelude::*;
use proptest::sample::Index;

use crate::abi::Opcode;
use crate::dispatch::{Outcome, dispatch};
use crate::fs::*;
use crate::protocol::decode::{Dialect, Frame, Operation, decode};
use crate::protocol::encode::ReplyBuf;
use crate::protocol::golden::{self, Aligned, HEADER};

/// Does nothing but count its calls and answer with what it was given.
#[derive(Debug, Default)]
struct Counter(AtomicUsize);

impl Counter {
    fn count<T>(&self, answer: Result<T>) -> Result<T> {
        self.0.fetch_add(1, Relaxed);
        answer
    }
}

impl Filesystem for Counter {
    fn lookup(&self, _: &Caller, _: NodeId, _: Name<'_>) -> Result<Entry> {
        self.count(Err(Errno::ENOENT))
    }

    fn forget(&self, _: NodeId, _: u64) {
        self.0.fetch_add(1, Relaxed);
    }

    fn getattr(&self, _: &Caller, _: NodeId, _: Option<Fh>) -> Result<Attributes> {
        self.count(Err(Errno::ENOENT))
    }

    fn read(
        &self,
        _: &Caller,
        _: NodeId,
        args: &abi::ReadIn,
        out: &mut Payload<'_>,
    ) -> Result<Data> {
        let filled = out.extend(&[0; 600][..600.min(args.size as usize)]);
        self.count(filled.map(|()| Data::Filled))
    }

    fn write(&self, _: &Caller, _: NodeId, args: &abi::WriteIn, data: &[u8]) -> Result<u32> {
        assert_eq!(args.size as usize, data.len());
        self.count(Ok(args.size))
    }

    fn readdir(
        &self,
        _: &Caller,
        _: NodeId,
        _: &abi::ReadIn,
        sink: &mut DirSink<'_, '_>,
    ) -> Result<()> {
        let entry = DirEntry { ino: 1, next_offset: 1, kind: 8, name: b"name" };
        while sink.push(entry).is_ok() {}
        self.count(Ok(()))
    }

    fn getxattr(&self, _: &Caller, _: NodeId, _: &CStr, value: &mut [u8]) -> Result<usize> {
        self.count(Ok(value.len().max(3)))
    }

    fn ioctl(
        &self,
        _: &Caller,
        _: NodeId,
        args: &abi::IoctlIn,
        b: IoctlBuffers<'_>,
    ) -> Result<i32> {
        assert_eq!(args.in_size as usize, b.input.len());
        assert_eq!(args.out_size as usize, b.output.len());
        self.count(Ok(0))
    }
}

/// Serves `bytes` if they are a request. The reply's buffer has 512 bytes.
fn serve(bytes: &[u8]) -> std::result::Result<(), TestCaseError> {
    let fs = Counter::default();
    let aligned = Aligned::new(bytes);
    let dialect = Dialect { setxattr_ext: true };
    let read = Frame::from_contiguous(aligned.bytes()).and_then(|frame| decode(frame, dialect));
    let Ok(request) = read else { return Ok(()) };
    let mut buffer = [0; 512];
    let mut reply = ReplyBuf::new(&mut buffer);
    let outcome = dispatch(&fs, &request, &mut reply);
    let calls = fs.0.load(Relaxed);
    match request.operation {
        Operation::BatchForget(list) => prop_assert_eq!(calls, list.len()),
        Operation::Forget(_) | Operation::Lookup { .. } | Operation::Getattr(_) => {
            prop_assert_eq!(calls, 1);
        }
        _ => prop_assert!(calls <= 1),
    }
    let silent = matches!(
        request.operation,
        Operation::Forget(_) | Operation::BatchForget(_) | Operation::Interrupt(_)
    );
    prop_assert_eq!(matches!(outcome, Ok(Outcome::NoReply)), silent);
    if let (Operation::Read(args) | Operation::Readdir(args), Ok(_)) = (request.operation, outcome)
    {
        prop_assert!(reply.parts().1.len() <= args.size as usize);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        serve(&bytes)?;
    }

    #[test]
    fn any_body_of_a_known_opcode(
        opcode in prop::sample::select(Opcode::ALL),
        body in prop::collection::vec(any::<u8>(), 0..160),
    ) {
        serve(&golden::request(opcode as u32, &body))?;
    }

    #[test]
    fn golden_requests_with_a_few_bytes_of_the_body_changed(
        which in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
    ) {
        let all = golden::all();
        let mut bytes = which.get(&all).request();
        let body = bytes.len() - HEADER;
        for (at, value) in changes.into_iter().filter(|_| body > 0) {
            bytes[HEADER + at.index(body)] = value;
        }
        serve(&bytes)?;
    }
}
