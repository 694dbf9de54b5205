//! The command line as a table: what is typed, what comes out.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use tracing::Level;

use super::*;
use crate::config::{Coherence, DataMode, DevIo, Sched, Transport};

fn parse_line(line: &str) -> Result<Command, clap::Error> {
    parse(line.split_whitespace())
}

fn mount(line: &str) -> Mount {
    match parse_line(line) {
        Ok(Command::Mount(mount)) => *mount,
        other => panic!("{line}: {other:?}"),
    }
}

fn usage_error(line: &str) -> String {
    let error = parse_line(line).expect_err(line);
    assert_eq!(error.exit_code(), 2, "{line}: {error}");
    error.to_string()
}

#[test]
fn clap_finds_no_fault_in_the_definition() {
    Cli::command().debug_assert();
}

#[test]
fn without_a_command_it_is_mount() {
    let want = mount("fusewire mount /src /mnt");
    assert_eq!(want, Mount::new("/src", "/mnt"));
    assert_eq!(mount("fusewire /src /mnt"), want);
    assert_eq!(mount("/sbin/mount.fuse.fusewire /src /mnt -n -s -o unheard_of"), want);
    assert_eq!(
        mount("mount.fusewire stats /mnt").config.source,
        std::path::absolute("stats").unwrap()
    );
    let want = mount("fusewire mount -o rw,allow_other /src /mnt");
    assert_eq!(mount("fusewire /src /mnt -o rw,allow_other"), want);
    assert_eq!(mount("fusewire -o rw,allow_other /src /mnt"), want);
    assert_eq!(mount("fusewire -orw,allow_other -- /src /mnt"), want);
}

#[test]
fn relative_paths_become_absolute() {
    let here = std::env::current_dir().expect("there is one");
    let mount = mount("fusewire ./src mnt/ --log-file=log");
    assert_eq!(mount.config.source, here.join("src"));
    assert_eq!(mount.config.mountpoint, here.join("mnt"));
    assert_eq!(mount.log_file, Some(here.join("log")));
}

#[test]
fn long_options_and_their_keys_do_the_same() {
    for (long, keys) in [
        ("--data copy", "data=copy"),
        ("--transport fuser", "transport=fuser"),
        ("--workers 3", "workers=3"),
        ("--dev-io uring", "dev_io=uring"),
        ("--max-write 65536", "max_write=65536"),
        ("--pin", "pin"),
        ("--no-pin", "no-pin"),
        ("--coherence exclusive", "coherence=exclusive"),
        ("--coherence timeout=2.5", "coherence=timeout=2.5"),
        ("--entry-timeout 2.5", "entry_timeout=2.5"),
        ("--attr-timeout 0.5", "attr-timeout=0.5"),
        ("--negative-timeout 3600", "negative_timeout=3600"),
        ("--fd-cache 100", "fd_cache=100"),
        ("--one-file-system", "one_file_system"),
        ("--log-file /log", "log_file=/log"),
        ("--foreground", "foreground"),
        ("--debug", "debug"),
        ("--verbose", "verbose"),
        ("-f -d -v -v", "foreground,debug,verbose,verbose"),
    ] {
        let a = mount(&format!("fusewire mount /s /m {long}"));
        assert_eq!(a, mount(&format!("fusewire mount /s /m -o {keys}")), "{long}");
        if long != "--no-pin" {
            assert_ne!(a, Mount::new("/s", "/m"), "{long} must do something");
        }
    }
}

#[test]
fn every_option_reaches_its_field() {
    let got = mount(
        "fusewire /s /m -o data=passthrough,workers=2,pin,entry_timeout=0,attr_timeout=0.25 \
         -o negative_timeout=9,fd_cache=7,fsname=a\\,b,subtype=x,allow_other,ro,nosuid \
         -o nodev,noexec,noatime,transport=dev,sched=normal,coherence=timeout=3,one_file_system -d",
    );
    let mut want = Mount::new("/s", "/m");
    want.foreground = true;
    want.log_level = Level::DEBUG;
    let config = &mut want.config;
    config.data = DataMode::Passthrough;
    config.transport = Transport::Dev;
    config.sched = Sched::Normal;
    config.workers = NonZeroUsize::new(2);
    config.pin = true;
    config.coherence = Coherence::Timeout(Duration::from_secs(3));
    config.entry_timeout = Some(Duration::ZERO);
    config.attr_timeout = Some(Duration::from_millis(250));
    config.negative_timeout = Some(Duration::from_secs(9));
    config.fd_cache = NonZeroUsize::new(7);
    config.one_file_system = true;
    config.mount.fsname = Some("a,b".into());
    config.mount.subtype = Some("x".into());
    config.mount.allow_other = true;
    config.mount.default_permissions = true;
    config.mount.ro = true;
    config.mount.nosuid = true;
    config.mount.nodev = true;
    config.mount.noexec = true;
    config.mount.noatime = true;
    assert_eq!(got, want);
}

#[test]
fn the_last_duplicate_wins_however_it_is_spelled() {
    for (line, want) in [
        ("--data copy --data passthrough", DataMode::Passthrough),
        ("--data copy -o data=passthrough", DataMode::Passthrough),
        ("-o data=passthrough --data copy", DataMode::Copy),
        ("-o data=copy -o ro,data=auto", DataMode::Auto),
        ("--data copy -o data=auto --data passthrough", DataMode::Passthrough),
    ] {
        assert_eq!(mount(&format!("fusewire /s /m {line}")).config.data, want, "{line}");
    }
    assert!(!mount("fusewire /s /m --pin --no-pin").config.pin);
    assert!(mount("fusewire /s /m --no-pin --pin").config.pin);
    assert!(mount("fusewire /s /m -f -f").foreground);
}

#[test]
fn log_levels_add_up() {
    for (line, want) in [
        ("", Level::INFO),
        ("-v", Level::DEBUG),
        ("-vv", Level::TRACE),
        ("-vvvv", Level::TRACE),
        ("-d", Level::DEBUG),
        ("-d -v", Level::TRACE),
    ] {
        assert_eq!(mount(&format!("fusewire /s /m {line}")).log_level, want, "{line}");
    }
}

#[test]
fn mistakes_are_named_with_their_remedy() {
    for (line, parts) in [
        ("fusewire /s /m -o allow_otter", &["'allow_otter'", "did you mean 'allow_other'"][..]),
        ("fusewire /s /m --wokers 2", &["'--wokers'", "'--workers'"]),
        ("fusewire /s /m --data fast", &["'fast'", "auto, passthrough, splice, copy"]),
        ("fusewire /s /m --max-write 5000", &["'5000'", "max_write", "multiple of 4096"]),
        ("fusewire /s /m --workers many", &["'many'", "'workers'", "from 1 to 1024"]),
        ("fusewire /s /m -o workers=many", &["'many'", "'workers'", "from 1 to 1024"]),
        ("fusewire /s /m --locality nfs", &["'nfs'", "'--locality", "gfarm"]),
        ("fusewire /s /m -o locality=gfarm,gfarm_spool=spool", &["'spool'", "an absolute path"]),
        ("fusewire /s /m -o gfarm_spool=/spool", &["are for locality=gfarm"]),
        ("fusewire /s /m -o locality=nfs", &["'nfs'", "'locality'", "gfarm"]),
        ("fusewire /s /m --coherence hope", &["'hope'", "'coherence'", "timeout=SECONDS"]),
        ("fusewire /s", &["<MOUNTPOINT>"]),
        ("fusewire /s /m /x", &["'/x'"]),
        ("fusewire mount", &["<SOURCE>", "<MOUNTPOINT>"]),
        ("fusewire umont /m", &["'umont'", "'umount'"]),
        ("fusewire umount", &["<MOUNTPOINT>"]),
        ("fusewire stats", &["mount point is missing"]),
        ("fusewire stats --watch 5", &["mount point is missing"]),
        ("fusewire stats /m --watch=0", &["'0'", "seconds above 0"]),
        ("fusewire stats /m --watch=fast", &["'fast'", "seconds above 0"]),
    ] {
        let message = usage_error(line);
        for part in parts {
            assert!(message.contains(part), "{line}: no {part} in {message}");
        }
    }
}

#[test]
fn keys_of_o_are_named_to_who_writes_them_as_long_options() {
    for (line, want) in [
        ("/s /m --profile read-mostly", "'--profile': use -o profile=read-mostly"),
        ("--profile=read-mostly /s /m", "'--profile': use -o profile=read-mostly"),
        ("mount /s /m --profile", "use -o profile=VALUE, which is general or read-mostly"),
        ("/s /m --allow-other", "'--allow-other': use -o allow_other"),
        ("/s /m --auto_unmount", "'--auto_unmount': after a crash"),
        ("null /m --ro", "'--ro': use -o ro"),
        ("null /m --data copy", "'--data': there is no source"),
    ] {
        let error = usage_error(&format!("fusewire {line}"));
        assert!(error.contains(want) && !error.contains("similar"), "{line}: {error}");
    }
}

/// What `mount --help` and docs/options.md tell of is what there is.
#[test]
fn every_key_is_told_of() {
    let known: BTreeSet<&str> = options::keys().collect();
    let help = parse_line("fusewire mount --help").expect_err("help").to_string();
    let word = |c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c));
    for key in &known {
        let long = format!("--{}", key.replace('_', "-"));
        let told = help.split(word).any(|word| word == long || word == *key);
        assert!(told, "{key} is not in mount --help");
    }
    let page = include_str!("../../docs/options.md");
    let (_, section) = page.split_once("## Options of `mount`").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("its end");
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let column = rows.map(|row| row.split('|').nth(2).expect("a second column"));
    let quoted = column.flat_map(|keys| keys.split('`').skip(1).step_by(2));
    let told: BTreeSet<&str> = quoted.map(|key| key.split('=').next().unwrap_or(key)).collect();
    assert_eq!(told, known, "the options of mount in docs/options.md, and those of -o");
}

#[test]
fn stats_takes_its_interval_in_every_manner() {
    for (line, interval) in [
        ("/m", None),
        ("/m --watch", Some(1000)),
        ("--watch /m", Some(1000)),
        ("/m --watch 5", Some(5000)),
        ("--watch 5 /m", Some(5000)),
        ("--watch=0.5 /m", Some(500)),
        ("/m -w", Some(1000)),
    ] {
        let want = stats_view::Options {
            mountpoint: "/m".into(),
            json: false,
            interval: interval.map(Duration::from_millis),
        };
        let got = parse_line(&format!("fusewire stats {line}")).expect(line);
        assert_eq!(got, Command::Stats(want), "{line}");
    }
}

#[test]
fn the_other_commands() {
    let umount = |lazy| Command::Umount(umount::Options { mountpoint: "/m".into(), lazy });
    assert_eq!(parse_line("fusewire umount /m").expect("valid"), umount(false));
    assert_eq!(parse_line("fusewire umount /m --lazy").expect("valid"), umount(true));
    let doctor = doctor::Options { source: Some("/s".into()), json: true, probe_kernel: false };
    assert_eq!(parse_line("fusewire doctor /s --json").expect("valid"), Command::Doctor(doctor));
}

#[test]
fn help_and_version_are_no_errors() {
    for (line, part) in [
        ("fusewire study run --help", "`--resume` goes on"),
        ("fusewire study requests --help", "Needs root"),
        ("fusewire study report --help", "one HTML page"),
        ("fusewire study compare --help", "3 with one"),
        ("fusewire study ls --help", "how far it came"),
        ("fusewire --help", "fusewire umount /mnt"),
        ("fusewire -h", "Exit status"),
        ("fusewire help mount", "allow_other"),
        ("fusewire mount --help", "negative-timeout"),
        ("fusewire mount --help", "\n  profile=read-mostly    read-only"),
        ("fusewire mount --help", "[possible values: off, auto, gluster, gfarm]"),
        ("fusewire null --help", "allow_other"),
        ("fusewire -V", env!("CARGO_PKG_VERSION")),
    ] {
        let answer = parse_line(line).expect_err(line);
        assert_eq!(answer.exit_code(), 0, "{line}");
        assert!(answer.to_string().contains(part), "{line}: {answer}");
        assert!(answer.to_string().lines().all(|line| line.len() <= 100), "{line}: {answer}");
    }
    assert_eq!(parse_line("fusewire").expect_err("help").exit_code(), 2);
}

fn null(line: &str) -> Null {
    match parse_line(line) {
        Ok(Command::Null(null)) => *null,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn null_takes_its_own_options_and_those_of_a_mount_without_a_source() {
    let plain = Null { mount: Mount::new("null", "/mnt"), fs: crate::null::Null::default() };
    assert_eq!(null("fusewire null /mnt"), plain);
    let got = null(
        "fusewire null /mnt -f --delay-us 20 --file-size 4096 --workers 3 -o workers=2,ro,pin \
         --log-file /log",
    );
    let mut want = plain;
    want.fs = crate::null::Null { file_size: 4096, delay: Duration::from_micros(20) };
    want.mount.foreground = true;
    want.mount.log_file = Some("/log".into());
    want.mount.config.workers = NonZeroUsize::new(2);
    want.mount.config.pin = true;
    want.mount.config.mount.ro = true;
    assert_eq!(got, want);
}

#[test]
fn null_refuses_what_needs_a_source() {
    for (line, want) in [
        ("-o data=copy", "'data' is not supported: there is no source"),
        ("-o gfarm_spool=/s", "'gfarm_spool' is not supported: there is no source"),
        ("-o coherence=exclusive", "'coherence' is not supported: there is no source"),
        ("-o ro,attr-timeout=1", "'attr_timeout' is not supported: there is no source"),
        ("-o zzz", "unknown mount option 'zzz'; `fusewire null --help`"),
        ("-o dta=copy", "unknown mount option 'dta'; `fusewire null --help`"),
        ("-o wrkers=2", "did you mean 'workers'? `fusewire null --help`"),
        ("--delay-us -1", "unexpected argument '-1'"),
        ("--delay-us x", "invalid value 'x' for '--delay-us <N>'"),
        ("--file-size 9223372036854775808", "9223372036854775808 is not in"),
    ] {
        let error = usage_error(&format!("fusewire null /mnt {line}"));
        assert!(error.contains(want), "{line}: {error}");
    }
    assert!(usage_error("fusewire null").contains("<MOUNTPOINT>"));
}

#[test]
fn rings_leave_no_choice_of_workers() {
    for choice in ["--workers 2", "--pin", "-o workers=2"] {
        let error = usage_error(&format!("fusewire /s /m --transport uring {choice}"));
        assert!(error.contains("are for --transport dev"), "{error}");
    }
    assert_eq!(mount("fusewire /s /m --transport uring").config.transport, Transport::Uring);
}

#[test]
fn splice_is_for_dev() {
    for line in ["", " --transport dev"] {
        let got = mount(&format!("fusewire /s /m --data splice{line}")).config;
        assert_eq!(got.data, DataMode::Splice);
    }
    let error = usage_error("fusewire /s /m -o data=splice --transport uring");
    assert!(error.contains("--data splice is for --transport dev"), "{error}");
    let error = usage_error("fusewire /s /m -o data=splice,transport=fuser");
    assert!(error.contains("--transport fuser copies all data"), "{error}");
}

#[test]
fn io_uring_on_dev_is_for_dev_and_copies() {
    assert_eq!(mount("fusewire /s /m --dev-io uring").config.dev_io, DevIo::Uring);
    for options in ["transport=uring", "transport=fuser"] {
        let error = usage_error(&format!("fusewire /s /m --dev-io uring -o {options}"));
        assert!(error.contains("--dev-io uring is for --transport dev"), "{error}");
    }
    let error = usage_error("fusewire /s /m --dev-io uring --data splice");
    assert!(error.contains("--dev-io uring copies all data"), "{error}");
}

#[test]
fn the_baseline_copies() {
    let got = mount("fusewire /s /m --transport fuser --data copy").config;
    assert_eq!((got.transport, got.data), (Transport::Fuser, DataMode::Copy));
    assert_eq!(
        mount("fusewire /s /m --transport fuser -o transport=dev").config.transport,
        Transport::Dev
    );
    assert_eq!(
        null("fusewire null /m -o transport=fuser").mount.config.transport,
        Transport::Fuser
    );
    let error = usage_error("fusewire /s /m -o transport=fuser --data passthrough");
    assert!(error.contains("--transport fuser copies all data"), "{error}");
}
