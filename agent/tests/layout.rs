//! What an io_end shows of its layout at a bio: the check that the programs make where no BTF tells.

use endiod_wire::{
    layout::Sample,
    wire::{IoEndImage, valid},
};

const FITS: u32 = valid::LAYOUT_FITS;
const MISFIT: u32 = valid::LAYOUT_MISFIT;
const OPEN: u32 = 0;

const IO_END: u64 = 0xffff_8881_0123_4000;
const VEC: u64 = IO_END + 48;
const ELSEWHERE: u64 = 0xffff_8881_0765_4000;

/// An io_end that is no list and has no range, at its first bio.
fn first_bio() -> Sample {
    let image = IoEndImage {
        list_next: IO_END,
        list_prev: IO_END,
        inode: 0xffff_8881_0abc_d000,
        count: 2,
        vec_next: VEC,
        vec_prev: VEC,
        ..IoEndImage::default()
    };
    Sample { io_end: IO_END, image, inode_is_ext4: true, vec_next_prev: Some(VEC) }
}

#[track_caller]
fn check(expected: u32, change: impl FnOnce(&mut Sample)) {
    let mut sample = first_bio();
    change(&mut sample);
    assert_eq!(sample.sign(), expected, "{sample:x?}");
}

#[test]
fn an_io_end_at_its_first_bio_fits() {
    check(FITS, |_| ());
    // One whose blocks were unwritten: a handle, a range, UNWRITTEN.
    check(FITS, |it| {
        it.image.handle = ELSEWHERE;
        it.image.flag = 1;
        (it.image.vec_next, it.image.vec_prev) = (ELSEWHERE, ELSEWHERE);
    });
}

#[test]
fn what_no_io_end_with_a_bio_can_be_is_a_misfit() {
    check(MISFIT, |it| it.image.list_next = ELSEWHERE);
    check(MISFIT, |it| it.image.list_prev = 0);
    check(MISFIT, |it| it.inode_is_ext4 = false);
    check(MISFIT, |it| it.image.count = 0);
    check(MISFIT, |it| it.image.count = 0xffff_8881);
    check(MISFIT, |it| it.image.flag = 4);
}

#[test]
fn a_later_or_throttled_bio_and_an_insertion_in_progress_prove_nothing() {
    check(OPEN, |it| it.image.count = 1);
    check(OPEN, |it| it.image.count = 3);
    check(OPEN, |it| it.image.bio = ELSEWHERE);
    check(OPEN, |it| it.image.flag = 3);
    check(OPEN, |it| it.vec_next_prev = Some(ELSEWHERE));
    check(OPEN, |it| it.vec_next_prev = None);
    check(OPEN, |it| it.image.handle = 7);
    check(OPEN, |it| it.image.vec_prev = 7);
}

/// The bytes of a healthy io_end, its members at other places: every exchange of two words or of flag and
/// count, and every shift by words, as a patched kernel might have them. None may pass for the layout.
#[test]
fn no_other_order_of_the_members_ever_fits() {
    let mut healthy = Vec::new();
    for (unwritten, handle) in [(0, 0), (1, 0), (1, 0xffff_8881_0000_1000)] {
        let (next, prev) = if unwritten == 1 { (ELSEWHERE, ELSEWHERE) } else { (VEC, VEC) };
        let inode = first_bio().image.inode;
        let counted = 2_u64 << 32 | unwritten;
        healthy.push([IO_END, IO_END, handle, inode, 0, counted, next, prev]);
    }
    let mut tried = 0;
    for words in healthy {
        assert_eq!(sign(words, words), FITS);
        let mut orders = vec![{
            let mut order = words;
            order[5] = words[5].rotate_left(32);
            order
        }];
        for left in 0..words.len() {
            for right in left + 1..words.len() {
                let mut order = words;
                order.swap(left, right);
                orders.push(order);
            }
        }
        for by in 1..words.len() {
            let mut order = words;
            order.rotate_right(by);
            orders.push(order);
        }
        for order in orders.into_iter().filter(|order| *order != words) {
            tried += 1;
            let sign = sign(order, words);
            // A handle in the place of a bio that is null: neither word accuses anybody.
            let is_harmless = order[3] == words[3] && order[5] == words[5];
            assert!(sign != FITS || is_harmless, "{order:x?}");
        }
    }
    assert!(tried > 90, "only {tried} were tried");
}

/// What the programs would say of these words; memory holds a healthy io_end's lists, and its inode.
fn sign(words: [u64; 8], healthy: [u64; 8]) -> u32 {
    let [list_next, list_prev, handle, inode, bio, counted, vec_next, vec_prev] = words;
    let image = IoEndImage {
        list_next,
        list_prev,
        handle,
        inode,
        bio,
        flag: u32::try_from(counted & 0xffff_ffff).expect("it was cut to fit"),
        count: u32::try_from(counted >> 32).expect("it was cut to fit"),
        vec_next,
        vec_prev,
    };
    let prev_at = |address: u64| match address {
        ELSEWHERE => Some(VEC),
        _ if address == VEC => Some(healthy[7]),
        _ if address == IO_END => Some(IO_END),
        _ => None,
    };
    let (inode_is_ext4, vec_next_prev) = (inode == healthy[3], prev_at(vec_next));
    Sample { io_end: IO_END, image, inode_is_ext4, vec_next_prev }.sign()
}
