//! The raw tracepoints' arguments on this kernel, checked before a program reads them.
//!
//! The kernel checks no type of theirs, so a program must not be attached where an argument is not what
//! it takes it for. The kernel describes them in BTF.

use super::btf::Btf;

/// A tracepoint and its first arguments: each row is a form that the program reads (5.10 to 7.3).
const FORMS: &[(&str, &[&[&str]])] = &[
    ("kmem_cache_alloc", &[&["long unsigned int", "void *"]]),
    ("kmem_cache_free", &[&["long unsigned int", "void *"]]),
    ("block_bio_queue", &[&["struct bio *"], &["struct request_queue *", "struct bio *"]]),
    (
        "block_rq_complete",
        &[
            &["struct request *", "blk_status_t", "unsigned int"],
            &["struct request *", "int", "unsigned int"],
        ],
    ),
    ("block_bio_complete", &[&["struct request_queue *", "struct bio *"]]),
    (
        "workqueue_queue_work",
        &[
            &["int", "struct pool_workqueue *", "struct work_struct *"],
            &["unsigned int", "struct pool_workqueue *", "struct work_struct *"],
        ],
    ),
    ("workqueue_execute_start", &[&["struct work_struct *"]]),
    ("workqueue_execute_end", &[&["struct work_struct *", "work_func_t"]]),
    ("ext4_sync_file_enter", &[&["struct file *", "int"]]),
    ("ext4_sync_file_exit", &[&["struct inode *", "int"]]),
];

/// What tells the programs which form it is: constant, tracepoint, argument, its type.
const VARIANTS: &[(&str, &str, usize, &str)] = &[
    ("BIO_QUEUE_ARG", "block_bio_queue", 1, "struct bio *"),
    ("KMEM_ALLOC_CACHE", "kmem_cache_alloc", 2, "struct kmem_cache *"),
    ("KMEM_FREE_CACHE", "kmem_cache_free", 2, "struct kmem_cache *"),
];

/// Why the tracepoint's program cannot be attached here, if so.
pub(super) fn misfit(btf: &Btf<'_>, tracepoint: &str) -> Option<String> {
    let params = match btf.tracepoint_params(tracepoint) {
        Ok(params) => params,
        Err(error) => return Some(error.to_string()),
    };
    let (_, forms) = FORMS.iter().find(|(name, _)| *name == tracepoint)?;
    let fits =
        |form: &&[&str]| params.iter().zip(*form).filter(|(a, b)| a == *b).count() == form.len();
    (!forms.iter().any(fits)).then(|| {
        format!("its arguments are ({}) here, which endiod cannot read", params.join(", "))
    })
}

/// The constants by which programs choose the form.
pub(super) fn variants(btf: &Btf<'_>) -> impl Iterator<Item = (&'static str, u32)> {
    VARIANTS.iter().map(|&(constant, tracepoint, index, wanted)| {
        let params = btf.tracepoint_params(tracepoint).unwrap_or_default();
        (constant, u32::from(params.get(index).is_some_and(|param| param == wanted)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::{Hook, PROBES};

    #[test]
    fn every_tracepoint_of_the_table_has_its_forms() {
        for probe in PROBES.iter().filter(|probe| probe.hook == Hook::Tracepoint) {
            assert!(FORMS.iter().any(|(name, _)| *name == probe.function), "{}", probe.function);
        }
        for (_, tracepoint, ..) in VARIANTS {
            assert!(FORMS.iter().any(|(name, _)| name == tracepoint), "{tracepoint}");
        }
    }
}
