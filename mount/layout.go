package mount

const objectsName = "objects"
