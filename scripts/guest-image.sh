#!/bin/sh
exit 10
