//! A clock that is finer than the runtime's, whose ticks are milliseconds.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// Ticks at a fixed interval from its start, and loses none.
#[derive(Debug)]
pub(crate) struct Ticks {
    timer: AsyncFd<OwnedFd>,
}

impl Ticks {
    /// Starts; the first tick is one interval from now.
    ///
    /// # Errors
    /// If the system gives no timer.
    #[expect(
        deprecated,
        reason = "a type could lie about its descriptor, which OwnedFd does not; the new name needs unsafe code"
    )]
    pub(crate) fn start(interval: Duration) -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        // Zero would stop the timer.
        let interval = interval.max(Duration::from_nanos(1));
        let interval = Timespec {
            tv_sec: i64::try_from(interval.as_secs()).map_err(io::Error::other)?,
            tv_nsec: interval.subsec_nanos().into(),
        };
        let setting = Itimerspec { it_interval: interval, it_value: interval };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting)?;
        Ok(Self { timer: AsyncFd::new(timer)? })
    }

    /// Waits for the next tick. Returns how many there were since the last call.
    ///
    /// # Errors
    /// If the timer cannot be read.
    pub(crate) async fn next(&self) -> io::Result<u64> {
        loop {
            let mut ready = self.timer.readable().await?;
            let mut count = [0; 8];
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut count)?));
            match read {
                Ok(read) => return read.map(|_| u64::from_ne_bytes(count)),
                Err(_would_block) => {}
            }
        }
    }
}
