//! The language of `-o` as a table: what is written, what comes of it.

use super::*;
use crate::config::DataMode;

fn apply_to_default(list: &str) -> Result<Mount, OptionError> {
    let mut mount = Mount::new("/src", "/mnt");
    apply_list(&mut mount, list, false)?;
    Ok(mount)
}

#[test]
fn lists_split_as_in_libfuse() {
    for (list, want) in [
        ("", vec![]),
        (",,a,,", vec!["a"]),
        ("a,b=c", vec!["a", "b=c"]),
        (r"fsname=a\,b,ro", vec!["fsname=a,b", "ro"]),
        (r"fsname=a\\,ro", vec![r"fsname=a\", "ro"]),
        (r"fsname=a\\\,b", vec![r"fsname=a\,b"]),
        (r"fsname=a\040b", vec!["fsname=a b"]),
        (r"fsname=a\xb", vec!["fsname=axb"]),
        (r"fsname=a\", vec![r"fsname=a\"]),
        ("fsname=a=b", vec!["fsname=a=b"]),
    ] {
        assert_eq!(split(list).expect(list), want, "{list}");
    }
    assert!(matches!(split(r"fsname=\377"), Err(OptionError::NotText { .. })));
}

#[test]
fn every_key_of_the_table_can_be_spelled_and_the_fstab_ones_change_nothing() {
    let untouched = Mount::new("/src", "/mnt");
    for (key, takes) in TABLE {
        match takes {
            Ignored => assert_eq!(apply_to_default(key).expect(key), untouched, "{key}"),
            Nothing(_) => drop(apply_to_default(key).expect(key)),
            Value { .. } => assert!(
                matches!(apply_to_default(key), Err(OptionError::MissingValue { .. })),
                "{key}"
            ),
            Refused(_) => {
                assert!(matches!(apply_to_default(key), Err(OptionError::Refused { .. })), "{key}")
            }
        }
    }
    let fstab = "defaults,nofail,noauto,user,_netdev,x-systemd.automount,x-gvfs-name=a,\
                 X-mount.mkdir=0755,comment=systemd.automount,group,owner";
    assert_eq!(apply_to_default(fstab).expect(fstab), untouched);
}

#[test]
fn the_last_of_duplicates_wins() {
    let mount = apply_to_default("ro,data=copy,rw,data=passthrough,nosuid,suid,pin,no_pin,pin")
        .expect("all known");
    assert!(!mount.config.mount.ro && !mount.config.mount.nosuid && mount.config.pin);
    assert_eq!(mount.config.data, DataMode::Passthrough);
}

#[test]
fn bad_values_name_key_value_and_what_is_accepted() {
    for (list, want) in [
        (
            "data=fast",
            "invalid value 'fast' for mount option 'data': expected auto, passthrough, splice or copy",
        ),
        (
            "workers=0",
            "invalid value '0' for mount option 'workers': expected a whole number from 1 to 1024",
        ),
        (
            "workers=1025",
            "invalid value '1025' for mount option 'workers': expected a whole number from 1 to 1024",
        ),
        (
            "attr_timeout=-1",
            "invalid value '-1' for mount option 'attr_timeout': expected seconds, as 0, 0.5 or 3600",
        ),
        (
            "entry_timeout=inf",
            "invalid value 'inf' for mount option 'entry_timeout': expected seconds, as 0, 0.5 or 3600",
        ),
        (
            "negative_timeout=1s",
            "invalid value '1s' for mount option 'negative_timeout': expected seconds, as 0, 0.5 or 3600",
        ),
        (
            "coherence=timeout",
            "invalid value 'timeout' for mount option 'coherence': expected auto, watch, exclusive or timeout=SECONDS",
        ),
        (
            "coherence=timeout=never",
            "invalid value 'timeout=never' for mount option 'coherence': expected auto, watch, exclusive or timeout=SECONDS",
        ),
        (
            "fd_cache=",
            "invalid value '' for mount option 'fd_cache': expected a whole number from 1",
        ),
        (
            "subtype=a b",
            "invalid value 'a b' for mount option 'subtype': expected a name of letters, digits, '.', '_' and '-'",
        ),
        ("fsname=", "invalid value '' for mount option 'fsname': expected a name"),
        ("ro=1", "mount option 'ro' takes no value, but got '1'"),
        ("workers", "mount option 'workers' needs a value: workers=a whole number from 1 to 1024"),
        (
            "allow_otter",
            "unknown mount option 'allow_otter', did you mean 'allow_other'? `fusewire mount --help` lists them all",
        ),
        (
            "dta=copy",
            "unknown mount option 'dta', did you mean 'data'? `fusewire mount --help` lists them all",
        ),
        ("zzz", "unknown mount option 'zzz'; `fusewire mount --help` lists them all"),
        (
            "sync",
            "mount option 'sync' is not supported: mount the source with it: its files are written to as the source says",
        ),
    ] {
        let error = apply_to_default(list).expect_err(list);
        assert_eq!(error.to_string(), want, "{list}");
    }
}

#[test]
fn sloppy_passes_over_unknown_keys_only() {
    let mut mount = Mount::new("/src", "/mnt");
    apply_list(&mut mount, "zzz,ro", true).expect("unknown is passed over");
    assert!(mount.config.mount.ro);
    apply_list(&mut mount, "data=zzz", true).expect_err("a bad value is still an error");
}
