//! Gfarm's client library, loaded at run time: nobody else needs it to be there.
//!
//! It is called in a process of its own only (`locality::gfarm::helper`): it waits half a minute for a
//! server that does not answer, and its headers are all that is known of it.
#![expect(unsafe_code, reason = "dlopen(3), and functions of a C library")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

/// Gfarm 2.7 and 2.8, and what is compatible with them.
const NAME: &CStr = c"libgfarm.so.1";
const RDONLY: c_int = 0;
const NO_ERROR: c_int = 0;

/// `struct gfs_stat` of gfarm/gfs.h.
#[repr(C)]
struct GfsStat {
    ino: u64,
    generation: u64,
    mode: u32,
    nlink: u64,
    user: *mut c_char,
    group: *mut c_char,
    size: i64,
    ncopy: u64,
    atime: GfarmTimespec,
    mtime: GfarmTimespec,
    ctime: GfarmTimespec,
}

#[repr(C)]
struct GfarmTimespec {
    seconds: i64,
    nanoseconds: i32,
}

/// `struct gfarm_host_info`, of which only the first member is used, with room for what may be added.
#[repr(C)]
struct HostInfo {
    hostname: *const c_char,
    rest: [u64; 31],
}

/// What the metadata server says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    /// Gfarm's inode number, which is `st_ino` in a mount.
    pub(crate) inode: u64,
    /// Counts the times that the file was written to and closed.
    pub(crate) generation: u64,
    /// In bytes.
    pub(crate) size: u64,
    /// Time of change: seconds, nanoseconds.
    pub(crate) ctime: (i64, i64),
}

/// An error of the library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GfarmError(pub(crate) String);

macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The library, initialised.
        #[derive(Debug)]
        pub(crate) struct Gfarm {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Gfarm {
            fn load() -> Result<Self, GfarmError> {
                // SAFETY: the name is a C string. What the library does when it is loaded is its own.
                let library = unsafe { libc::dlopen(NAME.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
                if library.is_null() {
                    return Err(GfarmError(format!(
                        "{} can not be loaded: install Gfarm's client (gfarm-client)",
                        NAME.to_string_lossy()
                    )));
                }
                Ok(Gfarm {
                    $($name: {
                        let symbol = concat!(stringify!($name), "\0");
                        // SAFETY: the library is never unloaded; the name ends with a NUL.
                        let address = unsafe { libc::dlsym(library, symbol.as_ptr().cast()) };
                        if address.is_null() {
                            return Err(GfarmError(format!(
                                "{} has no {}: this version of Gfarm is not known",
                                NAME.to_string_lossy(), stringify!($name)
                            )));
                        }
                        // SAFETY: the function has this signature in the headers of Gfarm.
                        unsafe {
                            std::mem::transmute::<
                                *mut c_void,
                                unsafe extern "C" fn($($argument),*) $(-> $result)?,
                            >(address)
                        }
                    },)*
                })
            }
        }
    };
}

functions! {
    gfarm_initialize: fn(*mut c_int, *mut *mut *mut c_char) -> c_int;
    gfarm_error_string: fn(c_int) -> *const c_char;
    gfs_stat: fn(*const c_char, *mut GfsStat) -> c_int;
    gfs_stat_free: fn(*mut GfsStat);
    gfs_replica_info_by_name: fn(*const c_char, c_int, *mut *mut c_void) -> c_int;
    gfs_replica_info_number: fn(*mut c_void) -> c_int;
    gfs_replica_info_nth_host: fn(*mut c_void, c_int) -> *const c_char;
    gfs_replica_info_nth_gen: fn(*mut c_void, c_int) -> u64;
    gfs_replica_info_nth_is_incomplete: fn(*mut c_void, c_int) -> c_int;
    gfs_replica_info_nth_is_dead_host: fn(*mut c_void, c_int) -> c_int;
    gfs_replica_info_nth_is_dead_copy: fn(*mut c_void, c_int) -> c_int;
    gfs_replica_info_free: fn(*mut c_void);
    gfs_pio_open: fn(*const c_char, c_int, *mut *mut c_void) -> c_int;
    gfs_pio_internal_set_view_section: fn(*mut c_void, *mut c_char) -> c_int;
    gfs_pio_read: fn(*mut c_void, *mut c_void, c_int, *mut c_int) -> c_int;
    gfs_pio_close: fn(*mut c_void) -> c_int;
    gfm_client_connection_and_process_acquire_by_path: fn(*const c_char, *mut *mut c_void) -> c_int;
    gfm_client_connection_free: fn(*mut c_void);
    gfm_host_info_get_by_name_alias: fn(*mut c_void, *const c_char, *mut HostInfo) -> c_int;
}

impl Gfarm {
    /// Loads the library and has it read its configuration.
    pub(crate) fn initialize() -> Result<Self, GfarmError> {
        let gfarm = Gfarm::load()?;
        // SAFETY: both may be null; this is called once, by the only thread that uses the library.
        let error = unsafe { (gfarm.gfarm_initialize)(ptr::null_mut(), ptr::null_mut()) };
        gfarm.check(error)?;
        Ok(gfarm)
    }

    fn check(&self, error: c_int) -> Result<(), GfarmError> {
        if error == NO_ERROR {
            return Ok(());
        }
        // SAFETY: answers a string that lasts as long as the library, for any number.
        let text = unsafe { CStr::from_ptr((self.gfarm_error_string)(error)) };
        Err(GfarmError(text.to_string_lossy().into_owned()))
    }

    /// The file of a path or URL, as it is now.
    pub(crate) fn version(&self, url: &CStr) -> Result<Version, GfarmError> {
        let mut stat = MaybeUninit::<GfsStat>::zeroed();
        // SAFETY: the library fills what it is given, or answers an error.
        self.check(unsafe { (self.gfs_stat)(url.as_ptr(), stat.as_mut_ptr()) })?;
        // SAFETY: there was no error; and zeroes would do as well.
        let mut stat = unsafe { stat.assume_init() };
        let version = Version {
            inode: stat.ino,
            generation: stat.generation,
            size: u64::try_from(stat.size).unwrap_or(u64::MAX),
            ctime: (stat.ctime.seconds, i64::from(stat.ctime.nanoseconds)),
        };
        // SAFETY: it holds what the library has allocated, and is not used any more.
        unsafe { (self.gfs_stat_free)(&raw mut stat) };
        Ok(version)
    }

    /// Whether a storage node that is up has all of this generation of a file.
    pub(crate) fn holds(
        &self,
        url: &CStr,
        host: &CStr,
        generation: u64,
    ) -> Result<bool, GfarmError> {
        let mut info = ptr::null_mut();
        // SAFETY: the library makes a list, or answers an error.
        self.check(unsafe { (self.gfs_replica_info_by_name)(url.as_ptr(), 0, &raw mut info) })?;
        // SAFETY: the list is the library's, and freed below.
        let number = unsafe { (self.gfs_replica_info_number)(info) };
        let held = (0..number).any(|nth| {
            // SAFETY: each takes the list and a number below its length; names last as long as it.
            unsafe {
                let name = (self.gfs_replica_info_nth_host)(info, nth);
                !name.is_null()
                    && CStr::from_ptr(name) == host
                    && (self.gfs_replica_info_nth_gen)(info, nth) == generation
                    && (self.gfs_replica_info_nth_is_incomplete)(info, nth) == 0
                    && (self.gfs_replica_info_nth_is_dead_host)(info, nth) == 0
                    && (self.gfs_replica_info_nth_is_dead_copy)(info, nth) == 0
            }
        });
        // SAFETY: it is not used any more.
        unsafe { (self.gfs_replica_info_free)(info) };
        Ok(held)
    }

    /// Has the storage node `host` open a file for reading, and runs `look` while it is open.
    pub(crate) fn with_open<T>(
        &self,
        url: &CStr,
        host: &CStr,
        look: impl FnOnce() -> T,
    ) -> Result<T, GfarmError> {
        let mut file = ptr::null_mut();
        // SAFETY: the library makes a file, or answers an error.
        self.check(unsafe { (self.gfs_pio_open)(url.as_ptr(), RDONLY, &raw mut file) })?;
        let opened = || {
            let host = host.as_ptr().cast_mut();
            // SAFETY: the file is open; the library copies the name.
            self.check(unsafe { (self.gfs_pio_internal_set_view_section)(file, host) })?;
            let (mut byte, mut len) = (0_u8, 0);
            let buffer = (&raw mut byte).cast();
            // SAFETY: the buffer holds the one byte that is asked for. It is at the first byte that
            // the storage node is asked.
            self.check(unsafe { (self.gfs_pio_read)(file, buffer, 1, &raw mut len) })?;
            Ok(look())
        };
        let result = opened();
        // SAFETY: the file is open, and not used any more.
        let closed = self.check(unsafe { (self.gfs_pio_close)(file) });
        result.and_then(|value| closed.map(|()| value))
    }

    /// Whether the metadata server knows a storage node of this name, which is not an alias.
    pub(crate) fn knows(&self, url: &CStr, host: &CStr) -> Result<bool, GfarmError> {
        let mut server = ptr::null_mut();
        let acquire = self.gfm_client_connection_and_process_acquire_by_path;
        // SAFETY: the library makes a connection, or answers an error.
        self.check(unsafe { acquire(url.as_ptr(), &raw mut server) })?;
        let mut info = HostInfo { hostname: ptr::null(), rest: [0; 31] };
        // SAFETY: the connection is good; there is more room than the structure takes. What it points
        // to is not freed: this is asked once.
        let error =
            unsafe { (self.gfm_host_info_get_by_name_alias)(server, host.as_ptr(), &raw mut info) };
        // SAFETY: it is not used any more.
        unsafe { (self.gfm_client_connection_free)(server) };
        // SAFETY: without an error the name is a string.
        Ok(error == NO_ERROR && unsafe { CStr::from_ptr(info.hostname) } == host)
    }
}
