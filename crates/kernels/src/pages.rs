//! Huge pages.

/// Asks the system to back untouched memory with huge pages, where available: fewer page faults on first touch and
/// fewer TLB misses afterwards. It changes no byte, and has no effect if the system refuses.
pub fn prefer_huge_pages<T>(memory: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let (start, len) = (memory.as_mut_ptr() as usize, size_of_val(memory));
        // Only whole pages inside the memory; the rest may belong to others.
        let first = start.next_multiple_of(PAGE);
        let end = (start + len) / PAGE * PAGE;
        if end > first {
            // SAFETY: the advice affects how pages are backed, not their contents; the range is inside memory that
            // the caller owns. A refusal (an older kernel, a setting) is not an error.
            unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_stay() {
        for n in [0, 1, 1000, 3 << 20] {
            let mut memory: Vec<u32> = (0..n).collect();
            prefer_huge_pages(&mut memory);
            assert!(memory.iter().copied().eq(0..n));
        }
    }
}
