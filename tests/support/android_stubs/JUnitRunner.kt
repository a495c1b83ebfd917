// https://junit.org/junit4/javadoc/4.13/org/junit/runner/RunWith.html
package org.junit.runner

import kotlin.reflect.KClass

abstract class Runner

annotation class RunWith(val value: KClass<out Runner>)
