# Rust; a user by number in a scratch image.
source=crate:bore-cli@0.6.0
from=rust:alpine
build() { docker build -t "$image" .; }
ask() { docker run --rm "$image" --version | grep 0.6.0; }
