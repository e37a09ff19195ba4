#!/bin/sh
# Build the images of services/, or hand them to a cluster that pulls from no registry.
#
#   scripts/images.sh build [IMAGE...]     all images, or those named (producer, db-consumer, ...)
#   scripts/images.sh save FOLDER          one FOLDER/IMAGE.tar each, for `ctr -n k8s.io images import`, kind or minikube
#   scripts/images.sh push REGISTRY/PREFIX tag and push each
#   scripts/images.sh list                 name and Dockerfile of each image
#
# TAG (default: the project's version) and BUILDER (docker, podman or buildah; default: the first that works) are
# read from the environment. IMAGE_COMMAND replaces the builder: it is called as IMAGE_COMMAND CONTEXT NAME:TAG DOCKERFILE.
set -eu
cd "$(dirname "$0")/.."
TAG=${TAG:-$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)}

list() {
  for file in services/*/Dockerfile services/mongodb/*/Dockerfile; do
    [ -e "$file" ] || continue
    folder=$(dirname "$file")
    echo "$(basename "$folder" | tr _ -) $file"
  done
}

builder() {
  for tool in ${BUILDER:-docker podman buildah}; do
    command -v "$tool" > /dev/null && "$tool" info > /dev/null 2>&1 && { echo "$tool"; return; }
  done
  echo "no builder of images works here: install docker, podman or buildah (tried: ${BUILDER:-docker podman buildah})" >&2
  exit 1
}

build_one() { # tool name file
  echo "building $2" >&2
  case $1 in
    command) "$IMAGE_COMMAND" services "$2" "$3" ;;
    docker) docker build -q -t "$2" -f "$3" services ;;
    podman) podman build -q --format docker -t "$2" -f "$3" services ;;
    buildah) buildah bud -q --layers --format docker -t "$2" -f "$3" services ;;
  esac
}

action=${1:-build}
[ $# = 0 ] || shift
case $action in
  list) list ;;
  build)
    if [ -n "${IMAGE_COMMAND:-}" ]; then tool=command; else tool=$(builder); fi
    for wanted in "$@"; do
      list | grep -q "^$wanted " || { echo "no image $wanted; there are: $(list | cut -d' ' -f1 | xargs)" >&2; exit 1; }
    done
    list | while read -r name file; do
      case " ${*:-$name} " in *" $name "*) build_one "$tool" "localhost/latencylab/$name:$TAG" "$file" ;; esac
    done ;;
  save)
    folder=${1:?save needs a folder}; tool=$(builder); mkdir -p "$folder"
    list | while read -r name _; do
      image=localhost/latencylab/$name:$TAG out=$folder/$name.tar
      rm -f "$out"
      case $tool in
        docker) docker save -o "$out" "$image" ;;
        podman) podman save -q --format docker-archive -o "$out" "$image" ;;
        buildah) buildah push -q "$image" "docker-archive:$out:$image" ;;
      esac
      echo "$out"
    done ;;
  push)
    to=${1:?push needs a registry and prefix, such as registry.example.org/me}; tool=$(builder)
    list | while read -r name _; do
      "$tool" tag "localhost/latencylab/$name:$TAG" "$to/$name:$TAG"
      "$tool" push "$to/$name:$TAG"
    done ;;
  *) sed -n 's/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
