use std::{sync::Arc, time::Duration};

use fusewire::fs::*;
use fusewire::session::{MountError, Options, Session};

const TEXT: &[u8] = b"hello\n";

#[derive(Debug)]
struct Hello;

fn attributes(ino: u64) -> Attributes {
    let (mode, size) = if ino == 1 { (0o40755, 0) } else { (0o100444, TEXT.len() as u64) };
    let attr = abi::Attr { ino, mode, size, nlink: 1, blksize: 4096, ..Default::default() };
    Attributes { attr, valid: Duration::from_secs(1) }
}

impl Filesystem for Hello {
    fn lookup(&self, _: &Caller, _: NodeId, name: Name<'_>) -> Result<Entry> {
        let (entry_valid, attributes) = (Duration::from_secs(1), attributes(2));
        let entry = Entry { nodeid: NodeId(2), generation: 0, entry_valid, attributes };
        if name.as_c_str() == c"hello" { Ok(entry) } else { Err(Errno::ENOENT) }
    }

    fn getattr(&self, _: &Caller, node: NodeId, _: Option<Fh>) -> Result<Attributes> {
        Ok(attributes(node.0))
    }

    fn readdir(&self, _: &Caller, _: NodeId, args: &abi::ReadIn, sink: &mut DirSink) -> Result<()> {
        if args.offset == 0 {
            let _ = sink.push(DirEntry { ino: 2, next_offset: 1, kind: 8, name: b"hello" });
        }
        Ok(())
    }

    fn read(&self, _: &Caller, _: NodeId, args: &abi::ReadIn, out: &mut Payload) -> Result<Data> {
        let text = &TEXT[TEXT.len().min(args.offset as usize)..];
        out.extend(&text[..text.len().min(args.size as usize)])?;
        Ok(Data::Filled)
    }
}

fn main() -> std::result::Result<(), MountError> {
    let mountpoint = std::env::args().nth(1).expect("usage: hello MOUNTPOINT");
    Session::mount(Arc::new(Hello), &Options::new(mountpoint))?.join()
}
