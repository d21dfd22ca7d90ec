//! One test body, a test on each storage.

/// `on_each!(memory, files, rados => open_and_close);` makes of the function `open_and_close`, which
/// takes a `&Storage`, the tests `open_and_close::in_memory`, `open_and_close::over_files` and
/// `open_and_close::over_rados`. `direct` is files with O_DIRECT. A test that has only `files` is
/// about files, and says in what way.
///
/// `Storage` is the calling crate's, with a constructor of each of these names; RADOS is left out
/// without its feature `rados`.
#[allow(
    clippy::crate_in_macro_def,
    reason = "the storages of the calling crate are meant"
)]
#[macro_export]
macro_rules! on_each {
    (@tests $kinds:tt $($test:ident)+) => {
        $(mod $test { $crate::on_each! { @kinds $test $kinds } })+
    };
    (@kinds $test:ident [$($kind:ident)+]) => {
        $($crate::on_each! { @one $kind $test })+
    };
    (@one memory $test:ident) => {
        #[test]
        fn in_memory() {
            super::$test(&crate::Storage::in_memory());
        }
    };
    (@one files $test:ident) => {
        #[test]
        fn over_files() {
            super::$test(&crate::Storage::over_files());
        }
    };
    (@one direct $test:ident) => {
        #[test]
        fn over_files_direct() {
            super::$test(&crate::Storage::over_files_direct());
        }
    };
    (@one rados $test:ident) => {
        #[cfg(feature = "rados")]
        #[test]
        fn over_rados() {
            let test = concat!(stringify!($test), "::over_rados");
            if let Some(storage) = crate::Storage::over_rados(test) {
                super::$test(&storage);
            }
        }
    };
    ($($kind:ident),+ => $($test:ident),+ $(,)?) => {
        $crate::on_each! { @tests [$($kind)+] $($test)+ }
    };
}
