//! Memory that is not used any more goes back to the system. The allocator gives it back by itself only where it works
//! on: a thread that has nothing to do keeps what its last load took.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How often a thread looks whether it has something to give back.
const TICK: Duration = Duration::from_secs(1);
/// A thread that worked less than this since it last gave back has nothing to give.
const WORTHWHILE: Duration = Duration::from_millis(10);
/// A thread that worked more than this since the last look is busy: it needs again what it frees, requests would wait
/// while it gives back, and the allocator itself does what is needed.
const BUSY: Duration = Duration::from_millis(10);

/// Makes the system give memory in small pages. With huge ones a few bytes keep two megabytes, and what is given back is
/// never a whole one. The allocator asks for none (its feature `no_thp`); some systems give them unasked.
pub(crate) fn refuse_huge_pages() {
    // A system that knows no huge pages knows no refusal either.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Gives back, again and again, what the thread that runs this has freed. Each thread's memory is its own: every runtime
/// of one thread needs this.
pub(crate) async fn keep_trimmed() {
    // Whatever it took to start is to be given back, too.
    let (mut looked, mut given) = (worked(), Duration::ZERO);
    loop {
        tokio::time::sleep(TICK).await;
        let now = worked();
        if now.saturating_sub(looked) < BUSY && now.saturating_sub(given) > WORTHWHILE {
            give_back();
            given = worked();
        }
        looked = now;
    }
}

/// Returns the CPU time of this thread.
fn worked() -> Duration {
    // The clock is there since Linux 2.6.12; without it there is nothing to give.
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[expect(unsafe_code, reason = "the allocator has no safe function for it")]
fn give_back() {
    // SAFETY: it may be called at any time, by any thread, and moves nothing.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
