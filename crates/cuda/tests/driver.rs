//! Finding GPUs, their memory and their kernels, with the fake driver. It reads its settings from the environment once
//! per process, so every case runs in its own process: this test program again.

use std::path::Path;
use std::process::Command;

use cs_cuda::{Arguments, Context, CudaError, Driver, Kernels};

/// Runs a test of this program again, with these settings of the fake driver.
fn again(test: &str, settings: &[(&str, &str)]) {
    let program = std::env::current_exe().expect("the running test");
    let status = Command::new(program)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .envs(settings.iter().copied())
        .output()
        .expect("it starts");
    let printed = String::from_utf8_lossy(&status.stdout);
    assert!(printed.contains("1 passed"), "{test}: {printed}{}", String::from_utf8_lossy(&status.stderr));
}

fn driver() -> Driver {
    Driver::open_at(&cs_fake_cuda_driver::library()).expect("the fake driver opens")
}

fn context() -> Context {
    let driver = driver();
    Context::new(&driver, &driver.devices().expect("cards")[0]).expect("a context")
}

fn one_line(error: &CudaError) -> String {
    let text = error.to_string();
    assert!(!text.contains('\n') && text.len() < 300, "{text}");
    text
}

#[test]
fn without_a_driver() {
    let error = Driver::open_at(Path::new("/nowhere/libcuda.so.1")).err().expect("no driver");
    assert!(matches!(error, CudaError::NoDriver { .. }), "{error:?}");
    assert!(one_line(&error).contains("cannot open") && one_line(&error).contains("install one"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_library_that_is_not_a_driver() {
    let error = Driver::open_at(Path::new("libm.so.6")).err().expect("no driver");
    assert_eq!(error, CudaError::MissingFunction { symbol: "cuInit" });
}

#[test]
fn a_card_in_use() {
    again("in_use", &[]);
}

#[test]
#[ignore = "run by `a_card_in_use`"]
fn in_use() {
    let driver = driver();
    let devices = driver.devices().unwrap();
    assert_eq!((driver.version_text().as_str(), devices.len()), ("12.8", 1));
    assert_eq!((devices[0].name.as_str(), devices[0].capability), ("Fake card", (9, 0)));
    devices[0].check(&driver).unwrap();
    let context = Context::new(&driver, &devices[0]).unwrap();
    let kernels = Kernels::new(&context).unwrap();

    let values: Vec<f32> = (0..3000u16).map(f32::from).collect();
    let (x, y) = (context.upload(&values).unwrap(), context.upload(&values).unwrap());
    let add = kernels.get("add").unwrap();
    let arguments = || Arguments::new().array(&x).array(&y).int(values.len());
    add.launch([values.len().div_ceil(add.shape.b), 1, 1], arguments()).unwrap();
    let doubled: Vec<f32> = values.iter().map(|v| 2.0 * v).collect();
    assert_eq!(x.to_vec().unwrap(), doubled);
    assert_eq!(x.read(10..13).unwrap(), [20.0, 22.0, 24.0]);
    add.launch([0, 1, 1], arguments()).unwrap();
    assert_eq!(x.to_vec().unwrap(), doubled);

    assert!(context.array::<f32>(10).unwrap().to_vec().unwrap().iter().all(|v| v.is_nan()));
    assert_eq!(context.zeros::<u32>(3).unwrap().to_vec().unwrap(), [0; 3]);
    let mut copy = context.zeros::<f32>(4).unwrap();
    copy.copy_from(1, &x, 1..4).unwrap();
    assert_eq!(copy.to_vec().unwrap(), [0.0, 2.0, 4.0, 6.0]);
    assert!(context.array::<f32>(0).unwrap().to_vec().unwrap().is_empty());

    let missing = kernels.get("nothing").err().unwrap();
    assert!(one_line(&missing).contains("nothing"));
    let wrong = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        add.launch([1, 1, 1], Arguments::new().array(&x).int(3).array(&y))
    }));
    assert!(wrong.is_err(), "arguments of other kinds are refused");
}

#[test]
fn blocks_are_used_again_and_a_full_card_says_so() {
    again("full", &[("FAKE_CUDA_MEMORY", "1048576")]);
}

#[test]
#[ignore = "run by `blocks_are_used_again_and_a_full_card_says_so`"]
fn full() {
    let context = context();
    let most = context.array::<f32>(200_000).unwrap();
    let error = context.array::<f32>(200_000).err().unwrap();
    assert!(matches!(error, CudaError::OutOfMemory { needed: 800_256, total: 1_048_576, .. }), "{error:?}");
    assert!(one_line(&error).contains("0.2 MiB of 1.0 MiB are free"), "{error}");
    drop(most);
    // The same size reuses a kept block; another size is allocated after it was freed.
    assert_eq!(context.memory().unwrap(), (1_048_576, 1_048_576));
    drop(context.array::<f32>(199_000).unwrap());
    let other = context.array::<f32>(250_000).unwrap();
    assert_eq!(other.len(), 250_000);
    assert!(context.peak() >= 1_000_000 && context.peak() < 1_048_576);
}

#[test]
fn a_card_that_is_lost_stays_lost() {
    again("lost", &[("FAKE_CUDA_LOST_AFTER", "2")]);
}

#[test]
#[ignore = "run by `a_card_that_is_lost_stays_lost`"]
fn lost() {
    let context = context();
    let add = Kernels::new(&context).unwrap().get("add").unwrap();
    let x = context.zeros::<f32>(4).unwrap();
    let launch = || add.launch([1, 1, 1], Arguments::new().array(&x).array(&x).int(4));
    launch().unwrap();
    launch().unwrap();
    let error = launch().err().unwrap();
    assert!(matches!(&error, CudaError::Lost { name, .. } if name == "Fake card"), "{error:?}");
    assert!(one_line(&error).contains("the same command again"));
    assert_eq!(context.wait().err(), Some(error.clone()));
    assert_eq!(x.to_vec().err(), Some(error.clone()));
    assert_eq!(context.upload(&[1.0f32]).err(), Some(error));
}

#[test]
fn a_kernel_that_goes_beyond_an_array_loses_the_card() {
    again("beyond", &[]);
}

#[test]
#[ignore = "run by `a_kernel_that_goes_beyond_an_array_loses_the_card`"]
fn beyond() {
    let context = context();
    let add = Kernels::new(&context).unwrap().get("add").unwrap();
    let (x, y) = (context.zeros::<f32>(1000).unwrap(), context.zeros::<f32>(10).unwrap());
    add.launch([1, 1, 1], Arguments::new().array(&x).array(&y).int(1000)).unwrap();
    assert!(matches!(context.wait().err().unwrap(), CudaError::Lost { .. }));
}

#[test]
fn cards_and_drivers_that_cannot() {
    again("old_driver", &[("FAKE_CUDA_VERSION", "11080")]);
    again("old_card", &[("FAKE_CUDA_CAPABILITY", "75")]);
    again("no_card", &[("FAKE_CUDA_DEVICES", "0")]);
}

#[test]
#[ignore = "run by `cards_and_drivers_that_cannot`"]
fn old_driver() {
    let driver = driver();
    let error = driver.devices().unwrap()[0].check(&driver).err().unwrap();
    assert_eq!(error, CudaError::DriverTooOld { found: 11080, needed: 12000 });
    assert!(one_line(&error).contains("is of CUDA 11.8, but the kernels need CUDA 12.0"), "{error}");
}

#[test]
#[ignore = "run by `cards_and_drivers_that_cannot`"]
fn old_card() {
    let driver = driver();
    let device = &driver.devices().unwrap()[0];
    let error = device.check(&driver).err().unwrap();
    assert_eq!(error, CudaError::NoKernels { name: "Fake card".to_owned(), capability: (7, 5) });
    assert_eq!(Kernels::new(&Context::new(&driver, device).unwrap()).err(), Some(error));
}

#[test]
#[ignore = "run by `cards_and_drivers_that_cannot`"]
fn no_card() {
    let error = Driver::open_at(&cs_fake_cuda_driver::library()).err().unwrap();
    assert_eq!(error, CudaError::NoDevice);
}

#[test]
fn every_architecture_loads_its_own_code_and_others_load_ptx() {
    for capability in ["80", "86", "89", "90", "100", "120", "87", "103"] {
        again("loads", &[("FAKE_CUDA_CAPABILITY", capability)]);
    }
}

/// The fake driver rejects machine code for another architecture, as a real one does.
#[test]
#[ignore = "run by `every_architecture_loads_its_own_code_and_others_load_ptx`"]
fn loads() {
    let context = context();
    let add = Kernels::new(&context).unwrap().get("add").unwrap();
    let x = context.upload(&[1.0f32, 2.0]).unwrap();
    add.launch([1, 1, 1], Arguments::new().array(&x).array(&x).int(2)).unwrap();
    assert_eq!(x.to_vec().unwrap(), [2.0, 4.0]);
}
