//! The clock that file systems stamp with.

use nix::time::{ClockId, clock_gettime};

/// Whether a stamp is old enough that another change would get another one: the clock of a file system
/// ticks as seldom as every 10 ms, and some keep whole seconds only. One in the future is not.
///
/// # Errors
/// As clock_gettime(2).
pub(crate) fn is_settled((seconds, nanoseconds): (i64, i64)) -> nix::Result<bool> {
    // Whole seconds may be all that there is, as in ext4's inodes of 128 bytes.
    let ticks: i64 = if nanoseconds == 0 { 2_000_000_000 } else { 20_000_000 };
    let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE)?;
    let whole = now.tv_sec().saturating_sub(seconds).saturating_mul(1_000_000_000);
    Ok(whole.saturating_add(now.tv_nsec().saturating_sub(nanoseconds)) > ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_ticks_back_is_settled() {
        let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).expect("there is a clock");
        let at =
            |seconds: i64| is_settled((now.tv_sec().saturating_add(seconds), now.tv_nsec().max(1)));
        assert_eq!([at(-1), at(0), at(3600)], [Ok(true), Ok(false), Ok(false)]);
        let whole = [-1, -4].map(|seconds| is_settled((now.tv_sec() + seconds, 0)));
        assert_eq!(whole, [Ok(false), Ok(true)], "of a file system that keeps seconds");
        let far = [i64::MIN, i64::MAX].map(|seconds| is_settled((seconds, 999_999_999)));
        assert_eq!(far, [Ok(true), Ok(false)]);
    }
}
