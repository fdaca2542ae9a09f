//! From a model's files to its weights: exact values, every layout of files, and every way they can be broken.

mod broken;
mod checkpoint_file;
mod hostile;
mod layouts;
mod torch_files;
mod values;
